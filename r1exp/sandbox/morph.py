"""Runs programs on virtual machines of Morph (cloud.morph.so), with their client `morphcloud`.

The client reads the key from the environment variable MORPH_API_KEY. Files are sent as text inside
commands, because the client's own upload would need SSH in addition to HTTPS.
"""

import base64
import functools
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import PositiveFloat

from r1exp.sandbox.base import Execute, Limits, SandboxDownError, Submission
from r1exp.sandbox.machine import CommandResult, prepared_on
from r1exp.sandbox.remote import (
    BUSY_STATUSES,
    BusyError,
    Remote,
    down_on,
    import_client,
    request_slots,
    retry_while_busy,
)
from r1exp.settings import Name

_PIECE = 60_000  # characters of base64 in one command; Linux allows 131,072 in one argument
_REQUEST_SECONDS = 60.0


class Morph(Remote):
    """One machine for each submission, started from a snapshot that has bash, python3 and g++."""

    kind: Literal["morph"] = "morph"
    snapshot: Name  # id of the snapshot that machines are started from
    start_seconds: PositiveFloat = 120.0  # seconds that a machine may take to start

    def check(self) -> str | None:
        """Check that the client is installed. Starts no machine, because machines cost money."""
        try:
            import_client("morphcloud.api")
        except SandboxDownError as down:
            return str(down)
        return None

    @contextmanager
    def prepared(self, program: Submission, limits: Limits) -> Iterator[Execute]:
        """Start a machine and keep it while the context is open."""
        api, httpx = import_client("morphcloud.api"), import_client("httpx")
        errors = (api.ApiError, httpx.HTTPError, TimeoutError, RuntimeError)
        lifetime = round(limits.compile_seconds + limits.total_seconds + self.start_seconds + 120)  # seconds
        instance = retry_while_busy(self, lambda: _start_machine(self, errors, lifetime))
        try:
            with prepared_on(_MorphMachine(self, errors, instance), program, limits) as execute:
                yield execute
        finally:
            with suppress(*errors):
                instance.stop()  # if that fails, it ends after its lifetime


@functools.cache
def _service() -> Any:
    """Return the client, which reads the key and takes a second to construct."""
    try:
        return import_client("morphcloud.api").MorphCloudClient()
    except ValueError as error:
        raise SandboxDownError(f"Morph: {error}") from error


def _start_machine(settings: Morph, errors: tuple[type[Exception], ...], lifetime: int) -> Any:
    try:
        return _service().instances.start(
            settings.snapshot, ttl_seconds=lifetime, ttl_action="stop", timeout=settings.start_seconds
        )
    except import_client("httpx").TransportError as error:
        raise BusyError(str(error)) from error
    except errors as error:
        if getattr(error, "status_code", None) in BUSY_STATUSES:
            raise BusyError(str(error)) from error
        raise SandboxDownError(f"Morph could not start a machine: {error}") from error


@dataclass(frozen=True, slots=True)
class _MorphMachine:
    settings: Morph
    errors: tuple[type[Exception], ...]
    instance: Any  # morphcloud.api.Instance

    def write(self, path: str, text: str) -> None:
        name, folder = shlex.quote(path), shlex.quote(str(PurePosixPath(path).parent))
        encoded = base64.b64encode(text.encode()).decode()
        self._do(f"mkdir -p {folder} && : > {name}")
        for start in range(0, len(encoded), _PIECE):  # a multiple of 4, so that each piece can be decoded
            self._do(f"printf %s {encoded[start : start + _PIECE]} | base64 -d >> {name}")

    def _do(self, command: str) -> None:
        answer = self.run(command, _REQUEST_SECONDS)
        if answer.exit_code != 0:
            raise SandboxDownError(f"Morph could not write a file: {answer.stderr}")

    def run(self, command: str, seconds: float) -> CommandResult:
        with request_slots(self.settings), down_on(self.errors, "Morph could not run a command"):
            done = self.instance.exec(command, timeout=seconds)
            return CommandResult(done.exit_code, done.stdout, done.stderr)
