"""Judges many answers within a bounded time: comparisons that need math-verify run in worker processes.

Equal pairs are compared once. A comparison that does not end, runs out of memory or ends its process is the answer's
fault, and the answer is wrong, unless the gold answer fails even when it is compared with itself.
"""

import atexit
import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar, Final, Literal

from r1exp.judgement.judge import UNREADABLE_GOLD, by_math_verify, can_read, decided
from r1exp.judgement.judgement import Judgement, Kind
from r1exp.judgement.reading import read
from r1exp.records import Completion, Problem
from r1exp.rewards import base
from r1exp.rewards.base import Abstain, Context, Score, Seconds, SlowReward, Span
from r1exp.rewards.worker_process import Job
from r1exp.rewards.workers import DIED, NOT_READY, WorkerPool

DEADLINE: Final = 5.0  # seconds for one comparison
_MOST_REMEMBERED: Final = 100_000  # comparisons by math-verify
_LATE: Final = "not compared in time"
_READABLE: Final = 1.0
Pair = tuple[str, str]  # answer, gold


class _Comparison(SlowReward):
    """Compares one answer with its gold answer by math-verify, in a worker process."""

    kind: Literal["comparison"] = "comparison"
    deadline: Seconds = DEADLINE  # seconds for one comparison
    memory_limit: ClassVar[int | None] = 4 * 2**30  # bytes; some formulas need more than any machine has
    preload: ClassVar[tuple[str, ...]] = ("r1exp.judgement.math_verify",)

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del context
        found = by_math_verify(completion.text, problem.answer or "")
        return base.UNREADABLE_GOLD if found.verdict == "unreadable gold" else float(found.is_correct)


class AnswerJudge:
    """Judges answers; its worker processes start with the first comparison that needs one.

    Args:
        deadline: Seconds that one comparison by math-verify may take.
        num_workers: Worker processes; None: as many as there are cores.
    """

    def __init__(self, deadline: float = DEADLINE, num_workers: int | None = None) -> None:
        self._comparison = _Comparison(deadline=deadline)
        self._pool = WorkerPool(num_workers, preload=list(_Comparison.preload))
        self._known: OrderedDict[Pair, Judgement] = OrderedDict()
        self._readable: dict[str, bool] = {}
        self._late: set[str] = set()  # answers that were not compared in time; they are not tried again

    def judge(self, pairs: Sequence[tuple[str | None, str | None]], kind: Kind = "auto") -> list[Judgement]:
        """Return the judgement of each pair of an answer and its gold answer, in order."""
        return self.judge_kinds([(answer, gold, kind) for answer, gold in pairs])

    def judge_kinds(self, rows: Sequence[tuple[str | None, str | None, Kind]]) -> list[Judgement]:
        """Return the judgement of each answer, gold answer and kind of gold answer, in order."""
        found = [decided(answer, gold, kind) for answer, gold, kind in rows]
        if all(found):  # a judgement is true
            return [judgement for judgement in found if judgement is not None]
        pairs = {
            row: (answer, gold)
            for row, (answer, gold, _) in enumerate(rows)
            if found[row] is None and answer is not None and gold is not None
        }
        for pair in pairs.values():
            if pair[0] in self._late:
                self._known.setdefault(pair, Judgement("unreadable answer", _LATE, read(pair[0]).text))
        self._compare([pair for pair in dict.fromkeys(pairs.values()) if pair not in self._known])
        judged = [
            self._known[pairs[row]] if judgement is None else judgement for row, judgement in enumerate(found)
        ]
        while len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
        return judged

    def can_read(self, golds: Sequence[tuple[str | None, Kind]]) -> list[bool]:
        """Return for each gold answer, and what it is, whether it can be read."""
        found = [can_read(gold, kind) for gold, kind in golds]
        asked = {
            gold for (gold, _), known in zip(golds, found, strict=True) if known is None and gold is not None
        }
        self._try_golds(sorted(asked - self._readable.keys()))
        return [
            self._readable[gold or ""] if known is None else known
            for (gold, _), known in zip(golds, found, strict=True)
        ]

    def close(self) -> None:
        """End the worker processes; a later comparison starts new ones."""
        self._pool.close()

    def _compare(self, pairs: Sequence[Pair]) -> None:
        """Add the judgements of math-verify to those that are known."""
        scores = self._scores_of(pairs)
        again = [
            pair
            for pair, score in scores.items()
            if isinstance(score, Abstain) and score.reason == DIED.reason
        ]
        scores |= self._scores_of(again)
        failed = {pair: score for pair, score in scores.items() if isinstance(score, Abstain)}
        for pair, score in scores.items():
            if pair not in failed:
                self._known[pair] = _of_number(score, pair)
        self._try_golds(
            [gold for gold in dict.fromkeys(gold for _, gold in failed) if gold not in self._readable]
        )
        for pair, abstention in failed.items():
            self._known[pair] = self._blamed(pair, abstention)

    def _try_golds(self, golds: Sequence[str]) -> None:
        """Find out which gold answers can be compared with themselves."""
        for (_, gold), score in self._scores_of([(gold, gold) for gold in golds]).items():
            self._readable[gold] = score == _READABLE

    def _blamed(self, pair: Pair, abstention: Abstain) -> Judgement:
        """Return whose fault it is that a pair could not be compared."""
        answer, gold = pair
        if abstention == base.UNREADABLE_GOLD or not self._readable[gold]:
            return Judgement("unreadable gold", _why(abstention), read(answer).text)
        if abstention == base.TIMEOUT:
            self._late.add(answer)
        return Judgement("unreadable answer", _why(abstention), read(answer).text)

    def _scores_of(self, pairs: Sequence[Pair]) -> dict[Pair, Score]:
        if not pairs:
            return {}
        context = Context()
        jobs = [
            Job(self._comparison, Problem("gold", "", gold), (Completion(answer, 1),), context)
            for answer, gold in pairs
        ]
        return {pair: scores[0] for pair, scores in zip(pairs, self._pool.run(jobs), strict=True)}


def _of_number(score: Score, pair: Pair) -> Judgement:
    return Judgement("correct" if score == 1.0 else "wrong", "math-verify", read(pair[0]).text)


def _why(abstention: Abstain) -> str:
    if abstention == base.UNREADABLE_GOLD:
        return UNREADABLE_GOLD.how
    if abstention == base.TIMEOUT:
        return _LATE
    return "no worker process" if abstention == NOT_READY else f"not comparable: {abstention.reason}"


_SHARED: dict[
    int, AnswerJudge
] = {}  # process id: its judge; a forked process must not use that of its parent


def judge(answer: str | None, gold: str | None, kind: Kind = "auto") -> Judgement:
    """Return whether `answer` is the gold answer `gold`, by which rule, and what was read.

    Args:
        answer: The text in the place of the answer; None: there is none.
        gold: The gold answer.
        kind: What the gold answer is.
    """
    known = decided(answer, gold, kind)
    if known is not None:
        return known
    process = os.getpid()
    if process not in _SHARED:
        _SHARED.clear()
        _SHARED[process] = AnswerJudge(num_workers=1)
        atexit.register(_SHARED[process].close)
    return _SHARED[process].judge([(answer, gold)], kind)[0]
