"""Requests to an OpenAI-compatible endpoint: side by side, tried again where that can help, and refused in plain words.

What passes (429, 5xx, no connection) is tried again after growing pauses; what does not pass by itself (a wrong key,
no such model, an answer that takes too long) ends the step with what to change.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import httpx

from r1exp.errors import StepFailed

Item = TypeVar("Item")
Result = TypeVar("Result")

_PASSING = frozenset({408, 409, 425, 429})  # and 5xx
_LONGEST_PAUSE = 30.0  # seconds


def growing_pauses(number: int) -> list[float]:
    """Return the seconds to wait before each further attempt: 0.5, 1, 2, ... up to half a minute."""
    return [min(0.5 * 2**attempt, _LONGEST_PAUSE) for attempt in range(number)]


def pauses_within(seconds: float) -> Iterator[float]:
    """Yield half a second, then whole ones, for as long as `seconds`."""
    end = time.monotonic() + seconds
    pause = 0.5
    while time.monotonic() < end:
        yield pause
        pause = 1.0


class Connection:
    """An endpoint and how patient to be with it.

    Args:
        url: Up to /v1.
        key: Sent as a bearer token; None: no key.
        timeout: Seconds for one request.
        concurrency: Requests under way at once.
        pauses: Gives the seconds to wait before each further attempt of a request.
        explain: What to type when it goes wrong, by kind of trouble: key, missing, slow, down.
        why_lost: Returns why the endpoint will never answer again, or None.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None,
        timeout: float,
        concurrency: int,
        pauses: Callable[[], Iterable[float]],
        explain: dict[str, str],
        why_lost: Callable[[], str | None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url.rstrip("/")
        self._concurrency = concurrency
        self._timeout = timeout
        self._pauses = pauses
        self._explain = explain
        self._why_lost = why_lost
        self._sleep = sleep
        self._client = httpx.Client(
            timeout=httpx.Timeout(timeout, connect=10.0),
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )

    def map(self, ask: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return `ask` of every item, in order; the first trouble ends all that has not begun."""
        with ThreadPoolExecutor(self._concurrency) as threads:
            try:
                return list(threads.map(ask, items))
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to one request.

        Raises:
            StepFailed: there is none, with what to do.
        """
        pauses = iter(self._pauses())
        while True:
            trouble, wanted_pause = self._attempt(path, body)
            if isinstance(trouble, dict):
                return trouble
            lost = self._why_lost()
            pause = next(pauses, None)
            if lost is not None or pause is None:
                raise StepFailed(f"{self.url}{path}: {lost or trouble}")
            self._sleep(max(pause, wanted_pause))

    def _attempt(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any] | str, float]:
        """Return the answer, or a passing trouble and the seconds the endpoint asks to wait."""
        try:
            response = self._client.post(f"{self.url}{path}", json=body)
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return f"it cannot be reached ({type(error).__name__}); {self._explain['down']}", 0.0
        except httpx.TimeoutException as error:
            raise StepFailed(
                f"{self.url}{path}: no answer within {self._timeout:g} s; {self._explain['slow']}"
            ) from error
        except httpx.TransportError as error:
            return f"it cannot be reached ({error or type(error).__name__}); {self._explain['down']}", 0.0
        if response.status_code == 200:
            return self._content(path, response), 0.0
        said = f"{response.status_code} {_message(response)}".strip()
        if response.status_code in _PASSING or response.status_code >= 500:
            return f"{said}; {self._explain['down']}", _seconds(response.headers.get("Retry-After"))
        advice = {401: "key", 403: "key", 404: "missing"}.get(response.status_code)
        raise StepFailed(f"{self.url}{path}: {said}{f'; {self._explain[advice]}' if advice else ''}")

    def _content(self, path: str, response: httpx.Response) -> dict[str, Any]:
        try:
            content = response.json()
        except ValueError:
            content = None
        if not isinstance(content, dict) or not content.get("choices"):
            raise StepFailed(
                f"{self.url}{path}: the answer is not of OpenAI's form: {response.text[:200]!r}; "
                f"{self._explain['missing']}"
            )
        return content


def _message(response: httpx.Response) -> str:
    """Return what an endpoint says about a request it refused."""
    try:
        content = response.json()
    except ValueError:
        return response.text[:300]
    error = content.get("error", content) if isinstance(content, dict) else content
    return str(error.get("message", json.dumps(error)) if isinstance(error, dict) else error)[:300]


def _seconds(retry_after: str | None) -> float:
    """Return the seconds of a Retry-After header, at most half a minute; 0.0 where it is none or a date."""
    try:
        return min(max(float(retry_after or 0.0), 0.0), _LONGEST_PAUSE)
    except ValueError:
        return 0.0
