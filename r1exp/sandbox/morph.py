"""Running programs on Morph's virtual machines (cloud.morph.so), by their client `morphcloud`.

The key comes from the environment (MORPH_API_KEY), as the client reads it. Files travel as text
inside commands: the client's own upload would need SSH besides HTTPS.
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
from r1exp.sandbox.machine import Answer, prepared_on
from r1exp.sandbox.remote import BUSY_STATUSES, BusyError, Remote, client, down_on, patiently, places
from r1exp.settings import Name

_PIECE = 60_000  # characters of base64 in one command; Linux takes 131,072 in one argument
_REQUEST_SECONDS = 60.0


class Morph(Remote):
    """One machine a submission, from a snapshot that has bash, python3 and g++."""

    kind: Literal["morph"] = "morph"
    snapshot: Name  # id of the snapshot that machines start from
    start_seconds: PositiveFloat = 120.0  # seconds a machine may take to start

    def check(self) -> str | None:
        """Look whether the client is there; a machine costs money."""
        try:
            client("morphcloud.api")
        except SandboxDownError as down:
            return str(down)
        return None

    @contextmanager
    def prepared(self, program: Submission, limits: Limits) -> Iterator[Execute]:
        """Rent a machine for as long as the context is open."""
        api, httpx = client("morphcloud.api"), client("httpx")
        errors = (api.ApiError, httpx.HTTPError, TimeoutError, RuntimeError)
        lifetime = round(limits.compile_seconds + limits.total_seconds + self.start_seconds + 120)  # seconds
        instance = patiently(self, lambda: _rent(self, errors, lifetime))
        try:
            with prepared_on(_Rented(self, errors, instance), program, limits) as execute:
                yield execute
        finally:
            with suppress(*errors):
                instance.stop()  # or else it ends with its lifetime


@functools.cache
def _service() -> Any:
    """Return the client, which takes a second to build. Reads the key."""
    try:
        return client("morphcloud.api").MorphCloudClient()
    except ValueError as error:
        raise SandboxDownError(f"Morph: {error}") from error


def _rent(settings: Morph, errors: tuple[type[Exception], ...], lifetime: int) -> Any:
    try:
        return _service().instances.start(
            settings.snapshot, ttl_seconds=lifetime, ttl_action="stop", timeout=settings.start_seconds
        )
    except client("httpx").TransportError as error:
        raise BusyError(str(error)) from error
    except errors as error:
        if getattr(error, "status_code", None) in BUSY_STATUSES:
            raise BusyError(str(error)) from error
        raise SandboxDownError(f"Morph could not start a machine: {error}") from error


@dataclass(frozen=True, slots=True)
class _Rented:
    settings: Morph
    errors: tuple[type[Exception], ...]
    instance: Any  # morphcloud.api.Instance

    def write(self, path: str, text: str) -> None:
        name, folder = shlex.quote(path), shlex.quote(str(PurePosixPath(path).parent))
        encoded = base64.b64encode(text.encode()).decode()
        self._do(f"mkdir -p {folder} && : > {name}")
        for start in range(0, len(encoded), _PIECE):  # a multiple of 4, so that each piece decodes by itself
            self._do(f"printf %s {encoded[start : start + _PIECE]} | base64 -d >> {name}")

    def _do(self, command: str) -> None:
        answer = self.run(command, _REQUEST_SECONDS)
        if answer.exit_code != 0:
            raise SandboxDownError(f"Morph could not write a file: {answer.stderr}")

    def run(self, command: str, seconds: float) -> Answer:
        with places(self.settings), down_on(self.errors, "Morph could not run a command"):
            done = self.instance.exec(command, timeout=seconds)
            return Answer(done.exit_code, done.stdout, done.stderr)
