"""Runs programs on virtual machines of E2B (e2b.dev, or your own server), with their client `e2b`.

The client reads the key from the environment variable E2B_API_KEY. Machines have no internet access.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from r1exp.sandbox.base import Execute, Limits, SandboxDownError, Submission
from r1exp.sandbox.machine import CommandResult, prepared_on
from r1exp.sandbox.remote import BusyError, Remote, down_on, import_client, request_slots, retry_while_busy


class E2b(Remote):
    """One machine for each submission, started from a template that has python3 and g++."""

    kind: Literal["e2b"] = "e2b"
    template: str = "base"  # name or id of an E2B template
    domain: str | None = None  # of your own server; None: E2B_DOMAIN, else e2b.app

    def check(self) -> str | None:
        """Check that the client is installed. Starts no machine, because machines cost money."""
        try:
            import_client("e2b")
        except SandboxDownError as down:
            return str(down)
        return None

    @contextmanager
    def prepared(self, program: Submission, limits: Limits) -> Iterator[Execute]:
        """Start a machine and keep it while the context is open."""
        e2b, httpx = import_client("e2b"), import_client("httpx")
        errors = (
            e2b.SandboxException,
            e2b.AuthenticationException,
            e2b.ServiceBusyException,
            httpx.HTTPError,
            OSError,
        )
        lifetime = round(limits.compile_seconds + limits.total_seconds + 120)  # seconds; then E2B kills it
        machine = retry_while_busy(self, lambda: _start_machine(self, errors, lifetime))
        try:
            with prepared_on(_E2bMachine(self, errors, machine), program, limits) as execute:
                yield execute
        finally:
            with suppress(*errors):
                machine.kill()  # if that fails, it ends after its lifetime


def _start_machine(settings: E2b, errors: tuple[type[Exception], ...], lifetime: int) -> Any:
    e2b, httpx = import_client("e2b"), import_client("httpx")
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
class _E2bMachine:
    settings: E2b
    errors: tuple[type[Exception], ...]
    machine: Any  # e2b.Sandbox

    def write(self, path: str, text: str) -> None:
        with request_slots(self.settings), down_on(self.errors, "E2B could not write a file"):
            self.machine.files.write(path, text)

    def run(self, command: str, seconds: float) -> CommandResult:
        with request_slots(self.settings), down_on(self.errors, "E2B could not run a command"):
            try:
                done = self.machine.commands.run(command, timeout=seconds)
            except import_client("e2b").CommandExitException as exited:  # an exit code other than 0
                done = exited
            return CommandResult(done.exit_code, done.stdout, done.stderr)
