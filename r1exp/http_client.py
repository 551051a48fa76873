"""Sends JSON requests to HTTP services, and sends them again where that can help.

A failure that may pass (429, 5xx, no connection) is tried again after growing pauses. Any other failure
(a wrong key, no such model, an answer that takes too long) ends the request with what to change. Which
failures count as passing is decided by each user of the client. Torch-free; httpx is imported with the
first client, because that takes 0.1 s.
"""

import itertools
import json
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from r1exp.errors import StepFailed

if TYPE_CHECKING:
    import httpx

Item = TypeVar("Item")
Result = TypeVar("Result")
Cause = Literal["down", "slow", "refused", "unreadable"]

RETRIED_STATUSES = frozenset({408, 409, 425, 429, *range(500, 600)})
_LONGEST_PAUSE = 30.0  # seconds
_ADVICE = {"down": "down", "slow": "slow", "unreadable": "missing"}  # cause: key of `explain`
_ADVICE_OF_STATUS = {401: "key", 403: "key", 404: "missing"}


class RequestFailed(StepFailed):
    """A request has no usable answer, after all attempts.

    Attributes:
        cause: `down`: not reachable, or it answered that it cannot serve requests now; `slow`: no answer
            in time; `refused`: another HTTP status than 200; `unreadable`: an answer of the wrong form.
        url: Where the last attempt was sent.
        found: What happened there.
        status: The HTTP status of the last attempt; None where there was no answer.
    """

    def __init__(
        self, message: str, cause: Cause = "down", url: str = "", found: str = "", status: int | None = None
    ) -> None:
        super().__init__(message)
        self.cause, self.url, self.found, self.status = cause, url, found, status


class TryAgain(Exception):
    """Raised by an attempt that may succeed when it is repeated.

    Args:
        error: Raised instead when there is no further attempt.
        pause: Seconds to wait at least, as the service demands.
    """

    def __init__(self, error: Exception, pause: float = 0.0) -> None:
        super().__init__(str(error))
        self.error, self.pause = error, pause


def with_retries(
    attempt: Callable[[], Result], pauses: Iterable[float], sleep: Callable[[float], None] = time.sleep
) -> Result:
    """Return what `attempt` returns, and repeat it while it raises TryAgain.

    Args:
        attempt: Called at least once.
        pauses: Seconds to wait before each further attempt; where it ends, the error is raised.
        sleep: Waits.
    """
    remaining = iter(pauses)
    while True:
        try:
            return attempt()
        except TryAgain as again:
            pause = next(remaining, None)
            if pause is None:
                raise again.error from again.__cause__
            sleep(max(pause, again.pause))


def growing_pauses(number: int, first: float = 0.5, longest: float = _LONGEST_PAUSE) -> list[float]:
    """Return `number` pauses in seconds: `first`, then twice the one before, at most `longest`."""
    return [min(first * 2**attempt, longest) for attempt in range(number)]


def pauses_within(seconds: float) -> Iterator[float]:
    """Yield pauses of 0.5 s and then of 1 s, until `seconds` have passed since the first."""
    end = time.monotonic() + seconds
    pause = 0.5
    while time.monotonic() < end:
        yield pause
        pause = 1.0


class HttpClient:
    """A client of one HTTP service that takes and returns JSON. Usable from several threads at once.

    Args:
        url: Base URL; of several, each attempt takes the next one in turn.
        key: Sent as a bearer token; None: no key.
        timeout: Seconds for one request.
        connect_timeout: Seconds to connect; None: `timeout`.
        concurrency: The most requests under way at once.
        pauses: Returns the seconds to wait before each further attempt of one request.
        retried_statuses: HTTP statuses that are tried again.
        retry_timeouts: Whether a request without an answer in time is tried again.
        retry_unreadable: Whether an answer of the wrong form is tried again.
        longest_retry_after: The longest pause in seconds that a `Retry-After` header can cause; 0: the
            header is ignored.
        explain: What to change, added to error messages, by the kind of failure: `key` (401, 403),
            `missing` (404, or an answer of the wrong form), `slow`, `down`.
        why_lost: Returns why the service will never answer again, which ends the attempts; or None.
        sleep: Waits between attempts.
    """

    form: ClassVar[str] = "JSON"  # of an answer, in messages

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        key: str | None = None,
        timeout: float,
        connect_timeout: float | None = 10.0,
        concurrency: int,
        pauses: Callable[[], Iterable[float]],
        retried_statuses: Collection[int] = RETRIED_STATUSES,
        retry_timeouts: bool = False,
        retry_unreadable: bool = False,
        longest_retry_after: float = _LONGEST_PAUSE,
        explain: Mapping[str, str] | None = None,
        why_lost: Callable[[], str | None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        import httpx

        urls = [each.rstrip("/") for each in ([url] if isinstance(url, str) else url)]
        self.url = urls[0]
        self._turns = itertools.cycle(urls)
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._concurrency = concurrency
        self._slots = threading.BoundedSemaphore(concurrency)
        self._pauses = pauses
        self._retried_statuses = retried_statuses
        self._retry_timeouts = retry_timeouts
        self._retry_unreadable = retry_unreadable
        self._longest_retry_after = longest_retry_after
        self._explain = dict(explain or {})
        self._why_lost = why_lost
        self._sleep = sleep
        headers = {"Content-Type": "application/json"}
        self._client = httpx.Client(
            headers=headers if key is None else {**headers, "Authorization": f"Bearer {key}"},
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return `function` of every item, in order, computed in `concurrency` threads.

        The first exception cancels all calls that have not begun.
        """
        with ThreadPoolExecutor(self._concurrency) as threads:
            try:
                return list(threads.map(function, items))
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise

    def get(self, path: str, *, timeout: float | None = None) -> Any:
        """Return the answer to a GET request. Raises RequestFailed."""
        return self._request("GET", path, None, timeout)

    def post(self, path: str, body: Mapping[str, Any], *, timeout: float | None = None) -> Any:
        """Return the answer to a POST request.

        Args:
            path: Added to the base URL.
            body: Sent as JSON.
            timeout: Seconds for this request; None: the client's.

        Raises:
            RequestFailed: there is no usable answer; the message says what to change.
        """
        return self._request("POST", path, body, timeout)

    def accepts(self, content: Any) -> bool:
        """Return whether parsed JSON has the form of an answer."""
        del content
        return True

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None, timeout: float | None) -> Any:
        seconds = self._timeout if timeout is None else timeout
        data = None if body is None else json.dumps(body).encode()
        return with_retries(
            lambda: self._attempt(method, f"{next(self._turns)}{path}", data, seconds),
            self._pauses(),
            self._sleep,
        )

    def _attempt(self, method: str, url: str, data: bytes | None, seconds: float) -> Any:
        import httpx

        connect = seconds if self._connect_timeout is None else self._connect_timeout
        try:
            with self._slots:
                response = self._client.request(
                    method, url, content=data, timeout=httpx.Timeout(seconds, connect=connect)
                )
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            found = f"it cannot be reached ({type(error).__name__})"
            raise self._passing(self._failure("down", url, found)) from error
        except httpx.TimeoutException as error:
            failure = self._failure("slow", url, f"no answer within {seconds:g} s")
            raise (self._passing(failure) if self._retry_timeouts else failure) from error
        except (httpx.RequestError, httpx.InvalidURL) as error:
            found = f"it cannot be reached ({error or type(error).__name__})"
            raise self._passing(self._failure("down", url, found)) from error
        return self._content(url, response)

    def _content(self, url: str, response: "httpx.Response") -> Any:
        """Return the parsed answer, or raise the failure that the response reports."""
        status = response.status_code
        if status != 200:
            found = f"HTTP {status} {_message(response)}".strip()
            if status not in self._retried_statuses:
                raise self._failure("refused", url, found, status)
            pause = _seconds(response.headers.get("Retry-After"), self._longest_retry_after)
            raise self._passing(self._failure("down", url, found, status), pause)
        try:
            content = response.json()
        except ValueError:
            content = None
        if content is None or not self.accepts(content):
            found = f"the answer is not {self.form}: {response.text[:200]!r}"
            failure = self._failure("unreadable", url, found, status)
            raise self._passing(failure) if self._retry_unreadable else failure
        return content

    def _failure(self, cause: Cause, url: str, found: str, status: int | None = None) -> RequestFailed:
        advice = _ADVICE_OF_STATUS.get(status or 0) if cause == "refused" else _ADVICE[cause]
        text = self._explain.get(advice or "")
        return RequestFailed(f"{url}: {found}{f'; {text}' if text else ''}", cause, url, found, status)

    def _passing(self, failure: RequestFailed, pause: float = 0.0) -> TryAgain | RequestFailed:
        """Return TryAgain, or the final failure if the service is lost."""
        lost = self._why_lost()
        if lost is None:
            return TryAgain(failure, pause)
        return RequestFailed(f"{failure.url}: {lost}", failure.cause, failure.url, lost, failure.status)


class OpenAiClient(HttpClient):
    """A client of an OpenAI-compatible API, whose answers have a list of `choices`."""

    form: ClassVar[str] = "of OpenAI's form"

    def accepts(self, content: Any) -> bool:
        """Return whether the answer has at least one choice."""
        return isinstance(content, dict) and bool(content.get("choices"))


def _message(response: "httpx.Response") -> str:
    """Return the error message in the body of a response."""
    try:
        content = response.json()
    except ValueError:
        return response.text[:300]
    error = content.get("error", content) if isinstance(content, dict) else content
    return str(error.get("message", json.dumps(error)) if isinstance(error, dict) else error)[:300]


def _seconds(retry_after: str | None, longest: float) -> float:
    """Return the seconds of a Retry-After header, at most `longest`; 0.0 where it is absent or a date."""
    try:
        seconds = float(retry_after or 0.0)
    except ValueError:
        return 0.0
    return 0.0 if math.isnan(seconds) else min(max(seconds, 0.0), longest)
