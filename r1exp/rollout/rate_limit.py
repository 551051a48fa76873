"""Delays requests so that an endpoint gets at most so many requests and tokens in any minute. Torch-free.

A request counts when it begins. Its tokens are not known then: it takes room for its prompt (its bytes / 4) and for a
completion of the mean length so far (of the longest allowed length, until one has ended), and is corrected when it has ended.
Every attempt counts as a request.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_WINDOW = 60.0  # seconds
_BYTES_PER_TOKEN = 4  # of English text, about
_LOOK_AGAIN = 1.0  # seconds; an answer that is shorter than estimated makes room


@dataclass
class Admitted:
    """A request that was let through."""

    began: float  # seconds of the clock
    num_tokens: float  # estimated, then counted


class RateLimit:
    """Counts the requests of one process. Usable from several threads at once.

    Args:
        requests_per_minute: The most requests that begin in any 60 s; None: no limit.
        tokens_per_minute: The most tokens of prompts and completions in any 60 s; None: no limit. A single request of more
            tokens begins when no other counts any longer.
        clock: Returns seconds.
        sleep: Waits.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._most_requests = requests_per_minute
        self._most_tokens = tokens_per_minute
        self._clock, self._sleep = clock, sleep
        self._recent: deque[Admitted] = deque()  # of the last minute, oldest first
        self._num_answers = 0
        self._num_answer_tokens = 0
        self._lock = threading.Lock()

    def admit(self, prompt: str, longest: int) -> Admitted | None:
        """Return when a further request may begin; None without a limit.

        Args:
            prompt: Its text.
            longest: The most tokens of its completion.
        """
        if self._most_requests is None and self._most_tokens is None:
            return None
        size = len(prompt.encode("utf-8", "replace")) / _BYTES_PER_TOKEN
        return self._wait_for(
            lambda: size + (self._num_answer_tokens / self._num_answers if self._num_answers else longest)
        )

    def _wait_for(self, num_tokens: Callable[[], float]) -> Admitted:
        while True:
            with self._lock:
                request = Admitted(self._clock(), num_tokens())
                seconds = self._seconds_until_room(request)
                if seconds <= 0.0:
                    self._recent.append(request)
                    return request
            self._sleep(min(seconds, _LOOK_AGAIN))

    def again(self) -> None:
        """Return when a further attempt of a request may begin; its tokens are counted already."""
        if self._most_requests is not None:
            self._wait_for(lambda: 0.0)

    def ended(self, request: Admitted | None, num_prompt_tokens: int | None, num_tokens: int) -> None:
        """Correct the tokens of an answered request.

        Args:
            request: What `admit` returned.
            num_prompt_tokens: Tokens of the prompt; None: the endpoint does not count them, and the estimate stays.
            num_tokens: Tokens of the completion.
        """
        if request is None:
            return
        with self._lock:
            self._num_answers += 1
            self._num_answer_tokens += num_tokens
            if num_prompt_tokens is not None:
                request.num_tokens = num_prompt_tokens + num_tokens

    def _seconds_until_room(self, request: Admitted) -> float:
        while self._recent and self._recent[0].began <= request.began - _WINDOW:
            self._recent.popleft()
        if not self._recent:
            return 0.0
        num_tokens = sum(each.num_tokens for each in self._recent)
        if self._most_requests is not None and len(self._recent) >= self._most_requests:
            return self._recent[0].began + _WINDOW - request.began
        if self._most_tokens is not None and num_tokens + request.num_tokens > self._most_tokens:
            return self._recent[0].began + _WINDOW - request.began
        return 0.0
