"""What every sandbox behind a network shares: patience with it, and a bound on what is asked at once."""

import functools
import importlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TypeVar

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from r1exp.http_client import TryAgain, growing_pauses, with_retries
from r1exp.sandbox.base import Sandbox, SandboxDownError

Result = TypeVar("Result")
BUSY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})  # HTTP: the service may answer if asked again
_LONGEST_PAUSE = 10.0  # seconds
_chance = random.Random()  # its own: waits must not move the random numbers of a run


class BusyError(Exception):
    """The service may answer if asked again."""


class Remote(Sandbox):
    """Settings of a service that may be busy, slow or down."""

    concurrency: PositiveInt = 8  # requests at once, of each process
    retries: NonNegativeInt = 4  # times to ask again
    backoff_seconds: PositiveFloat = 0.5  # seconds before the first of them; then doubled, up to 10


@functools.cache
def places(settings: Remote) -> threading.BoundedSemaphore:
    """Return what bounds the concurrency of `settings` in this process."""
    return threading.BoundedSemaphore(settings.concurrency)


def pauses(settings: Remote) -> list[float]:
    """Return the seconds to wait before each further attempt.

    Half to all of the backoff, so that requests that were refused together do not come back together.
    """
    longest = max(_LONGEST_PAUSE, settings.backoff_seconds)
    return [
        pause * _chance.uniform(0.5, 1.0)
        for pause in growing_pauses(settings.retries, settings.backoff_seconds, longest)
    ]


def patiently(settings: Remote, ask: Callable[[], Result]) -> Result:
    """Return what `ask` returns, and repeat it while it raises BusyError, at most `retries` times."""

    def attempt() -> Result:
        try:
            with places(settings):
                return ask()
        except BusyError as busy:
            down = SandboxDownError(f"{settings.kind} did not answer {settings.retries + 1} times: {busy}")
            raise TryAgain(down) from busy

    return with_retries(attempt, pauses(settings))


def client(package: str) -> ModuleType:
    """Import the client of a service; only those who chose it need to have it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as missing:
        name = package.partition(".")[0]
        raise SandboxDownError(f"the client `{name}` is not installed; type: pip install {name}") from missing


@contextmanager
def down_on(errors: tuple[type[Exception], ...], what: str) -> Iterator[None]:
    """Turn a client's errors into ours; `what` says what could not be done."""
    try:
        yield
    except errors as error:
        raise SandboxDownError(f"{what}: {error}") from error
