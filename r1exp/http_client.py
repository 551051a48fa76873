"""Sends JSON requests to HTTP services, and sends them again where that can help.

A failure that may pass (429, 5xx, no connection) is tried again after growing pauses. Any other failure
(a wrong key, no such model, an answer that takes too long) ends the request with what to change. Which
failures count as passing is decided by each user of the client.

A request can have a deadline, which no pause and no attempt exceeds. A service that is busy (429, or 503 with
`Retry-After`) is then asked again until the deadline, when it wishes to be asked. A circuit breaker can end all requests
to a service that is down. Loopback and private addresses are reached without the environment's proxy.

Torch-free; httpx is imported with the first client, because that takes 0.1 s.
"""

import itertools
import json
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar
from urllib.parse import urlsplit

from r1exp.addresses import has_proxy, is_direct
from r1exp.circuit_breaker import CircuitBreaker
from r1exp.errors import StepFailed

if TYPE_CHECKING:
    import httpx

Item = TypeVar("Item")
Result = TypeVar("Result")
Cause = Literal["down", "busy", "slow", "late", "refused", "unreadable"]

RETRIED_STATUSES = frozenset({408, 409, 425, 429, *range(500, 600)})
_LONGEST_PAUSE = 30.0  # seconds
_NUM_GROWING = 6  # pauses from 0.5 s until the longest
_ADVICE = {
    "down": "down",
    "busy": "busy",
    "slow": "slow",
    "late": "late",
    "unreadable": "missing",
}  # cause: key of `explain`
_ADVICE_OF_STATUS = {401: "key", 403: "key", 404: "missing"}


class RequestFailed(StepFailed):
    """A request has no usable answer, after all attempts.

    Attributes:
        cause: `down`: not reachable, or it answered that it cannot serve requests; `busy`: it answered that it
            has too many; `slow`: no answer in time; `late`: not asked, because the deadline had passed; `refused`:
            another HTTP status than 200; `unreadable`: an answer of the wrong form.
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
        is_busy: The service works, and has too much to do: with a deadline, the attempts are not counted.
    """

    def __init__(self, error: Exception, pause: float = 0.0, is_busy: bool = False) -> None:
        super().__init__(str(error))
        self.error, self.pause, self.is_busy = error, pause, is_busy


def with_retries(
    attempt: Callable[[], Result],
    pauses: Iterable[float],
    sleep: Callable[[float], None] = time.sleep,
    until: float = math.inf,
) -> Result:
    """Return what `attempt` returns, and repeat it while it raises TryAgain.

    Args:
        attempt: Called at least once.
        pauses: Seconds to wait before each further attempt; where it ends, the error is raised.
        sleep: Waits.
        until: The deadline, by `time.monotonic()`. A pause that would exceed it is not begun, and the error is
            raised; until then a busy service is asked again, whatever `pauses` says.
    """
    remaining = iter(pauses)
    busy = itertools.chain(growing_pauses(_NUM_GROWING), itertools.repeat(_LONGEST_PAUSE))
    while True:
        try:
            return attempt()
        except TryAgain as again:
            pause = next(busy if again.is_busy and until < math.inf else remaining, None)
            if pause is None:
                raise again.error from again.__cause__
            pause = max(pause, again.pause)
            if time.monotonic() + pause > until:
                raise again.error from again.__cause__
            sleep(pause)


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
        longest_retry_after: The longest pause in seconds that a `Retry-After` header can cause in a request without
            a deadline; 0: the header is ignored, with a deadline too.
        explain: What to change, added to error messages, by the kind of failure: `key` (401, 403),
            `missing` (404, or an answer of the wrong form), `slow`, `late`, `down`, `busy` (without it: `down`).
        why_lost: Returns why the service will never answer again, which ends the attempts; or None.
        breaker: Records every attempt. While it is open, requests fail at once, except probes.
        sleep: Waits between attempts.
        before_retry: Called before each further attempt of a request, after its pause.
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
        breaker: CircuitBreaker | None = None,
        sleep: Callable[[float], None] = time.sleep,
        before_retry: Callable[[], None] = lambda: None,
    ) -> None:
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
        self._before_retry = before_retry
        self._breaker = breaker
        self._free_at = 0.0  # by time.monotonic(): until then the service wishes no request
        self._client = _httpx_client(urls, key, concurrency)

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return `function` of every item, in order, computed in `concurrency` threads.

        The first exception cancels all calls that have not begun, and is raised when those under way have ended.
        """
        failed = threading.Event()

        def call(item: Item) -> Result:
            if failed.is_set():  # at once: the calls before it may take long
                raise CancelledError
            try:
                return function(item)
            except BaseException:
                failed.set()
                raise

        with ThreadPoolExecutor(self._concurrency) as threads:
            calls = [threads.submit(call, item) for item in items]
            try:
                wait(calls, return_when=FIRST_EXCEPTION)
            except BaseException:  # Ctrl-C
                threads.shutdown(cancel_futures=True)
                raise
        errors = (each.exception() for each in calls)
        for error in errors:
            if error is not None and not isinstance(error, CancelledError):
                raise error
        return [each.result() for each in calls]

    def get(self, path: str, *, timeout: float | None = None) -> Any:
        """Return the answer to a GET request. Raises RequestFailed."""
        return self._request("GET", path, None, timeout)

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        timeout: float | None = None,
        until: float = math.inf,
        is_probe: bool = False,
    ) -> Any:
        """Return the answer to a POST request.

        Args:
            path: Added to the base URL.
            body: Sent as JSON.
            timeout: Seconds for one attempt; None: the client's.
            until: The deadline of all attempts and pauses, by `time.monotonic()`.
            is_probe: Send it also while the breaker is open.

        Raises:
            RequestFailed: there is no usable answer; the message says what to change.
        """
        return self._request("POST", path, body, timeout, until, is_probe)

    def responds(self, path: str, *, timeout: float) -> bool:
        """Return whether a single GET request is answered with status 200, whatever the answer's form."""
        try:
            self._attempt("GET", f"{self.url}{path}", None, timeout, math.inf, is_probe=True)
        except TryAgain as again:
            return getattr(again.error, "status", None) == 200
        except RequestFailed as failed:
            return failed.status == 200
        return True

    def accepts(self, content: Any) -> bool:
        """Return whether parsed JSON has the form of an answer."""
        del content
        return True

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        timeout: float | None,
        until: float = math.inf,
        is_probe: bool = False,
    ) -> Any:
        seconds = self._timeout if timeout is None else timeout
        data = None if body is None else json.dumps(body).encode()
        if until < math.inf and 0.0 < (wait := self._free_at - time.monotonic()) < until - time.monotonic():
            self._sleep(wait)  # the service has told another request when it is free
        return with_retries(
            lambda: self._attempt(method, f"{next(self._turns)}{path}", data, seconds, until, is_probe),
            self._pauses(),
            self._pause,
            until,
        )

    def _pause(self, seconds: float) -> None:
        self._sleep(seconds)
        self._before_retry()

    def _attempt(
        self, method: str, url: str, data: bytes | None, seconds: float, until: float, is_probe: bool
    ) -> Any:
        if self._breaker is not None and self._breaker.reason is not None and not is_probe:
            raise self._failure("down", url, f"not asked, because it is down ({self._breaker.reason})")
        with self._slot(url, until):
            seconds = min(seconds, until - time.monotonic())
            if seconds <= 0.0:
                raise self._failure("late", url, "not asked before the deadline")
            began = time.monotonic()
            try:
                response = self._response(method, url, data, seconds)
                content = self._content(url, response, has_deadline=until < math.inf)
            except (RequestFailed, TryAgain) as error:
                self._record(began, error.error if isinstance(error, TryAgain) else error)
                raise
        if self._breaker is not None:
            self._breaker.succeeded()
        return content

    @contextmanager
    def _slot(self, url: str, until: float) -> Iterator[None]:
        """Take one of the `concurrency` places; waiting takes none of a request's timeout, but of its deadline."""
        if not self._slots.acquire(timeout=None if until == math.inf else max(0.0, until - time.monotonic())):
            raise self._failure("late", url, "not asked before the deadline")
        try:
            yield
        finally:
            self._slots.release()

    def _record(self, began: float, failure: Exception) -> None:
        """Tell the breaker about a failed attempt; a service that refuses or is busy is not down."""
        if self._breaker is None or not isinstance(failure, RequestFailed):
            return
        if failure.cause in ("down", "slow"):
            self._breaker.failed(began, failure.found)
        else:
            self._breaker.succeeded()

    def _response(self, method: str, url: str, data: bytes | None, seconds: float) -> "httpx.Response":
        """Return a response that was read within `seconds`, also if it comes in many small parts."""
        import httpx

        connect = seconds if self._connect_timeout is None else min(seconds, self._connect_timeout)
        end = time.monotonic() + seconds
        try:
            with self._client.stream(
                method, url, content=data, timeout=httpx.Timeout(seconds, connect=connect)
            ) as response:
                parts = bytearray()
                for part in response.iter_raw():
                    parts += part
                    if time.monotonic() > end:
                        raise httpx.ReadTimeout("the answer does not end")
                return httpx.Response(response.status_code, headers=response.headers, content=bytes(parts))
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            found = f"it cannot be reached ({type(error).__name__})"
            raise self._passing(self._failure("down", url, found)) from error
        except httpx.TimeoutException as error:
            failure = self._failure("slow", url, f"no answer within {seconds:.3g} s")
            raise (self._passing(failure) if self._retry_timeouts else failure) from error
        except (httpx.RequestError, httpx.InvalidURL) as error:
            found = f"it cannot be reached ({error or type(error).__name__})"
            raise self._passing(self._failure("down", url, found)) from error

    def _content(self, url: str, response: "httpx.Response", has_deadline: bool) -> Any:
        """Return the parsed answer, or raise the failure that the response reports."""
        status = response.status_code
        if status != 200:
            found = f"HTTP {status} {_message(response)}".strip()
            if status not in self._retried_statuses:
                raise self._failure("refused", url, found, status)
            wanted = response.headers.get("Retry-After")
            is_busy = status == 429 or (status == 503 and wanted is not None)
            longest = math.inf if has_deadline and self._longest_retry_after else self._longest_retry_after
            pause = min(_seconds(wanted), longest)
            self._free_at = max(self._free_at, time.monotonic() + pause)
            raise self._passing(
                self._failure("busy" if is_busy else "down", url, found, status), pause, is_busy
            )
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
        text = self._explain.get(advice or "") or (self._explain.get("down") if advice == "busy" else None)
        return RequestFailed(f"{url}: {found}{f'; {text}' if text else ''}", cause, url, found, status)

    def _passing(
        self, failure: RequestFailed, pause: float = 0.0, is_busy: bool = False
    ) -> TryAgain | RequestFailed:
        """Return TryAgain, or the final failure if the service is lost."""
        lost = self._why_lost()
        if lost is None:
            return TryAgain(failure, pause, is_busy)
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


def _seconds(retry_after: str | None) -> float:
    """Return the seconds of a Retry-After header, which gives seconds or a date; 0.0 where it is absent or neither."""
    text = retry_after or ""
    with suppress(ValueError):
        seconds = float(text)
        return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
    with suppress(ValueError, TypeError):
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    return 0.0


def _httpx_client(urls: Sequence[str], key: str | None, concurrency: int) -> "httpx.Client":
    """Return a client that reaches loopback and private hosts without a proxy, and others as the environment says.

    Raises:
        StepFailed: the environment names a proxy that cannot be used.
    """
    import httpx

    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    if not has_proxy():
        return httpx.Client(headers=headers, limits=limits)
    try:
        hosts = {urlsplit(url).hostname or "" for url in urls}
    except ValueError:  # reported by the first request
        hosts = set()
    direct = {host for host in hosts if is_direct(host)}
    if direct == hosts:  # httpx reads no proxy from the environment for a client with a transport of its own
        return httpx.Client(headers=headers, transport=httpx.HTTPTransport(limits=limits))
    mounts = {f"all://[{host}]" if ":" in host else f"all://{host}": None for host in direct}
    try:
        return httpx.Client(headers=headers, limits=limits, mounts=mounts)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise StepFailed(
            f"the environment names a proxy for {', '.join(sorted(hosts - direct))} that cannot be used ({error}); "
            "correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, or name the host in NO_PROXY"
        ) from error
