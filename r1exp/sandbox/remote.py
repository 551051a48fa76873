"""Base class and helpers of the sandboxes that are services: retries, and a limit on concurrent requests."""

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
BUSY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})  # HTTP statuses that may pass
_LONGEST_PAUSE = 10.0  # seconds
_random = random.Random()  # a separate generator: pauses must not change the random numbers of a run


class BusyError(Exception):
    """The service is busy or not reachable; a later request may succeed."""


class Remote(Sandbox):
    """Settings of a service that may be busy, slow or down."""

    concurrency: PositiveInt = 8  # concurrent requests of each process
    retries: NonNegativeInt = 4  # attempts after the first
    backoff_seconds: PositiveFloat = 0.5  # seconds before the second attempt; then doubled, up to 10


@functools.cache
def request_slots(settings: Remote) -> threading.BoundedSemaphore:
    """Return the semaphore that limits the concurrent requests of `settings` in this process."""
    return threading.BoundedSemaphore(settings.concurrency)


def pauses(settings: Remote) -> list[float]:
    """Return the seconds to wait before each further attempt.

    Each is a random part of the backoff, from half to all of it, so that requests that failed at the
    same time are not repeated at the same time.
    """
    longest = max(_LONGEST_PAUSE, settings.backoff_seconds)
    return [
        pause * _random.uniform(0.5, 1.0)
        for pause in growing_pauses(settings.retries, settings.backoff_seconds, longest)
    ]


def retry_while_busy(settings: Remote, request: Callable[[], Result]) -> Result:
    """Return what `request` returns, and repeat it while it raises BusyError, at most `retries` times.

    Raises:
        SandboxDownError: it raised BusyError every time.
    """

    def attempt() -> Result:
        try:
            with request_slots(settings):
                return request()
        except BusyError as busy:
            down = SandboxDownError(f"{settings.kind} did not answer {settings.retries + 1} times: {busy}")
            raise TryAgain(down) from busy

    return with_retries(attempt, pauses(settings))


def import_client(package: str) -> ModuleType:
    """Return the client module of a service; it must be installed only where that service is chosen."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as missing:
        name = package.partition(".")[0]
        raise SandboxDownError(f"the client `{name}` is not installed; type: pip install {name}") from missing


@contextmanager
def down_on(errors: tuple[type[Exception], ...], what: str) -> Iterator[None]:
    """Turn the errors of a client into SandboxDownError; `what` says what could not be done."""
    try:
        yield
    except errors as error:
        raise SandboxDownError(f"{what}: {error}") from error
