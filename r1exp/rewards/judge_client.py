"""Asks a judge at an endpoint many questions at once, within a deadline, and remembers its verdicts.

A batch never takes longer than the deadline. A judge that is down costs that time once: a circuit breaker opens after
30 s without an answer (at the earliest when the first requests have timed out), then every question abstains at once,
and one is sent in the background every 30 s until the judge answers again.
"""

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, Protocol

from r1exp.circuit_breaker import CircuitBreaker
from r1exp.http_client import OpenAiClient, RequestFailed, growing_pauses
from r1exp.rewards.base import Abstain, Score
from r1exp.terminal import say

DOWN: Final = Abstain("judge down")  # it cannot be reached, fails, or does not answer in time
BUSY: Final = Abstain("judge busy")  # it has too many requests (429) until the deadline
LATE: Final = Abstain("judge late")  # not asked before the deadline
UNCLEAR: Final = Abstain("judge unclear")  # its reply is not of the expected form
_OF_CAUSE: Final = {"down": DOWN, "slow": DOWN, "busy": BUSY, "late": LATE, "unreadable": UNCLEAR}
_PATH: Final = "/chat/completions"
_CACHE_BYTES: Final = 64 << 20  # of remembered verdicts: about 300,000
_BYTES_OF_ENTRY: Final = (
    104  # of an entry of a dictionary, at most: hash, two pointers, and its part of the table
)


class Connection(Protocol):
    """The settings of an endpoint."""

    @property
    def endpoint(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def timeout(self) -> float: ...
    @property
    def deadline(self) -> float: ...
    @property
    def retries(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...


class Kept(Protocol):
    """Verdicts on disk: those of an interrupted step, by the hash of the question; None: UNCLEAR."""

    rows: dict[int, Any]

    def add(self, rows: Mapping[int, Any]) -> None: ...


class JudgeClient:
    """Sends questions to a judge and returns its verdicts.

    Args:
        settings: The endpoint.
        key: Its key; None: it needs none.
        read: Returns the score in a reply of the judge; UNCLEAR where there is none.
        kept: Where each verdict is kept as soon as it is there; None: nowhere.
    """

    def __init__(
        self,
        settings: Connection,
        key: str | None,
        read: Callable[[str], Score],
        kept: Kept | None = None,
    ) -> None:
        self._settings = settings
        self._read = read
        self._breaker = CircuitBreaker()
        self._was_open = False
        self._verdicts = VerdictCache(kept=kept)
        self._client = OpenAiClient(
            settings.endpoint,
            key=key,
            timeout=settings.timeout,
            concurrency=settings.concurrency,
            pauses=lambda: growing_pauses(settings.retries),
            retry_timeouts=True,
            breaker=self._breaker,
        )

    def scores(self, questions: Sequence[str]) -> list[Score]:
        """Return a score for each question, in order; each different question is asked once.

        Takes at most `deadline` seconds; what has no answer by then abstains. Only verdicts are remembered: a question
        that a failure left without one is asked again the next time.
        """
        known = {question: self._verdicts.get(question) for question in dict.fromkeys(questions)}
        new = [question for question, score in known.items() if score is None]
        fresh = self._fresh(new) if new else {}
        return [_either(known[question], fresh.get(question)) for question in questions]

    def _fresh(self, questions: list[str]) -> dict[str, Score]:
        if self._breaker.takes_probe():
            threading.Thread(
                target=self._probe, args=(questions[0],), daemon=True, name="probe-judge"
            ).start()
        if self._breaker.is_open:
            return dict.fromkeys(questions, DOWN)
        self._say_if_changed()
        end = time.monotonic() + self._settings.deadline
        scores = self._client.map(lambda question: self._ask(question, end), questions)
        self._say_if_changed()
        return dict(zip(questions, scores, strict=True))

    def _say_if_changed(self) -> None:
        reason = self._breaker.reason
        if reason is not None and not self._was_open:
            say(
                f"the judge {self._client.url} is down ({reason}): its scores abstain, and it is asked again now and then"
            )
        elif reason is None and self._was_open:
            say(f"the judge {self._client.url} answers again")
        self._was_open = reason is not None

    def _probe(self, question: str) -> None:
        self._ask(question, time.monotonic() + self._settings.timeout, is_probe=True)

    def _ask(self, question: str, until: float, is_probe: bool = False) -> Score:
        try:
            answer = self._client.post(_PATH, self._body(question), until=until, is_probe=is_probe)
        except RequestFailed as failed:
            return _OF_CAUSE.get(failed.cause, Abstain(f"judge refused: {failed.status}"))
        score = self._read(_content(answer))
        self._verdicts.add(question, score)
        return score

    def _body(self, question: str) -> dict[str, Any]:
        return {
            "model": self._settings.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0.0,
            "max_tokens": self._settings.max_tokens,
        }


class VerdictCache:
    """Remembers the verdicts of questions, the newest ones, in a bounded number of bytes.

    A question is kept as its hash, so that its length does not count. Usable from several threads at once.

    Args:
        max_bytes: The most memory that the verdicts take.
        kept: Verdicts on disk, which are remembered, and to which each new one is added; None: none.
    """

    def __init__(self, max_bytes: int = _CACHE_BYTES, kept: Kept | None = None) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._scores: dict[int, Score] = {}
        self._lock = threading.Lock()
        for key, score in () if kept is None else kept.rows.items():
            self._remember(key, UNCLEAR if score is None else score)
        self._kept = kept

    def __len__(self) -> int:
        return len(self._scores)

    def get(self, question: str) -> Score | None:
        """Return the verdict of a question; None: there is none."""
        return self._scores.get(_digest(question))

    def add(self, question: str, score: Score) -> None:
        """Remember a verdict, and forget the oldest ones that exceed the bound."""
        key = _digest(question)
        if self._kept is not None:
            self._kept.add({key: None if isinstance(score, Abstain) else score})
        with self._lock:
            self._remember(key, score)

    def _remember(self, key: int, score: Score) -> None:
        if key not in self._scores:
            self._num_bytes += _size(key, score)
        self._scores[key] = score
        while self._num_bytes > self._max_bytes:
            oldest = next(iter(self._scores))
            self._num_bytes -= _size(oldest, self._scores.pop(oldest))


def _digest(question: str) -> int:
    digest = blake2b(question.encode("utf-8", errors="surrogatepass"), digest_size=16).digest()
    return int.from_bytes(digest, "big")


def _size(key: int, score: Any) -> int:
    """Return the bytes of an entry; a verdict is a number, several of them, or an abstention, which all entries share."""
    numbers = list(score) if isinstance(score, tuple | list) else []
    own = 0 if isinstance(score, Abstain) else sys.getsizeof(score)
    return sys.getsizeof(key) + own + sum(map(sys.getsizeof, numbers)) + _BYTES_OF_ENTRY


def _either(known: Score | None, fresh: Score | None) -> Score:
    score = fresh if known is None else known
    assert score is not None
    return score


def _content(answer: dict[str, Any]) -> str:
    """Return the text of the reply; "" where the answer is not of the expected form."""
    try:
        content = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return ""
    return content if isinstance(content, str) else ""
