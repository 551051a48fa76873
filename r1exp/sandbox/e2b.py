"""Running programs on E2B's virtual machines (e2b.dev, or your own), by their client `e2b`.

The key comes from the environment (E2B_API_KEY), as the client reads it. Machines have no internet.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from r1exp.sandbox.base import Execute, Limits, SandboxDownError, Submission
from r1exp.sandbox.machine import Answer, prepared_on
from r1exp.sandbox.remote import BusyError, Remote, client, down_on, patiently, places


class E2b(Remote):
    """One machine a submission, from a template that has python3 and g++."""

    kind: Literal["e2b"] = "e2b"
    template: str = "base"  # name or id of an E2B template
    domain: str | None = None  # of a server of your own; None: E2B_DOMAIN, else e2b.app

    def check(self) -> str | None:
        """Look whether the client is there; a machine costs money."""
        try:
            client("e2b")
        except SandboxDownError as down:
            return str(down)
        return None

    @contextmanager
    def prepared(self, program: Submission, limits: Limits) -> Iterator[Execute]:
        """Rent a machine for as long as the context is open."""
        e2b, httpx = client("e2b"), client("httpx")
        errors = (
            e2b.SandboxException,
            e2b.AuthenticationException,
            e2b.ServiceBusyException,
            httpx.HTTPError,
            OSError,
        )
        lifetime = round(limits.compile_seconds + limits.total_seconds + 120)  # seconds; then E2B kills it
        machine = patiently(self, lambda: _rent(self, errors, lifetime))
        try:
            with prepared_on(_Rented(self, errors, machine), program, limits) as execute:
                yield execute
        finally:
            with suppress(*errors):
                machine.kill()  # or else it ends with its lifetime


def _rent(settings: E2b, errors: tuple[type[Exception], ...], lifetime: int) -> Any:
    e2b, httpx = client("e2b"), client("httpx")
    busy = (e2b.RateLimitException, e2b.TimeoutException, e2b.ServiceBusyException, httpx.TransportError)
    try:
        return e2b.Sandbox.create(
            template=settings.template,
            timeout=lifetime,
            allow_internet_access=False,
            domain=settings.domain,
            retries=0,
        )
    except busy as error:
        raise BusyError(str(error)) from error
    except errors as error:
        raise SandboxDownError(f"E2B could not start a machine: {error}") from error


@dataclass(frozen=True, slots=True)
class _Rented:
    settings: E2b
    errors: tuple[type[Exception], ...]
    machine: Any  # e2b.Sandbox

    def write(self, path: str, text: str) -> None:
        with places(self.settings), down_on(self.errors, "E2B could not write a file"):
            self.machine.files.write(path, text)

    def run(self, command: str, seconds: float) -> Answer:
        with places(self.settings), down_on(self.errors, "E2B could not run a command"):
            try:
                done = self.machine.commands.run(command, timeout=seconds)
            except client("e2b").CommandExitException as exited:  # an exit code other than 0
                done = exited
            return Answer(done.exit_code, done.stdout, done.stderr)
