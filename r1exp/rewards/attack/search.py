"""Searches for strategies with a high total, and reduces what it finds to the pieces that are needed.

First every piece is tried by itself; then strategies are changed and crossed, those with the highest total and those
that each member scores highest (an evolutionary search that keeps the best for each member, as in MAP-Elites,
arXiv:1504.04909). What exceeds an honest mistake by a tenth of the distance to gold is an exploit.
"""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r1exp.rewards.attack.pieces import HONEST_ANSWER, IN_TIME, Piece
from r1exp.rewards.attack.scoring import Honest, Result, Scorer, is_late
from r1exp.rewards.attack.strategy import HONEST_MISTAKES, Strategy, shaped_hedges, single_deviations

_SHARE = 0.1  # of the distance from an honest mistake to gold, above which a strategy is an exploit
_KEPT = 0.9  # share of an exploit's gain that a simpler strategy must keep to replace it
_BATCH = 16  # strategies that are scored together
_NUM_BEST = 12  # parents with the highest totals
_MOST_EXPLOITS = 8  # that are reported
_PATIENCE = 40  # batches without a higher score, after which the search ends if it has found an exploit
_PATIENCE_WITHOUT = 120  # the same, if it has found none


@dataclass(frozen=True, slots=True)
class Levels:
    """The totals that a strategy is compared with."""

    gold: float
    mistake: Result  # of the honest mistake with the highest total

    @property
    def lowest(self) -> float:
        """The total of the best honest mistake."""
        return self.mistake.total or 0.0

    @property
    def depends_on_answer(self) -> bool:
        """Whether a right answer scores more than a wrong one."""
        return self.gold > self.lowest + 1e-6

    @property
    def bound(self) -> float:
        """The total above which a strategy is an exploit."""
        distance = self.gold - self.lowest if self.depends_on_answer else max(abs(self.lowest), _SHARE)
        return self.lowest + _SHARE * distance


@dataclass(frozen=True, slots=True)
class Found:
    """An exploit, and other strategies with one deviation that the same members score high."""

    result: Result
    also: tuple[Strategy, ...]


def measure(scorer: Scorer, mistakes: Sequence[Strategy] = ()) -> Levels:
    """Score gold and honest mistakes, and tell the scorer what abstentions are imputed from.

    A mistake that scores as much as gold, where others score less, is not what others are compared with: it exploits.
    """
    gold = scorer.gold()
    scorer.honest = Honest(gold=gold.scores, mistake={})
    found = [*scorer.results([*HONEST_MISTAKES, *mistakes]), scorer.mistake_as_long_as_gold()]
    lower = [result for result in found if _rank(result.total) < _rank(gold.total) - 1e-6]
    mistake = max(lower or found, key=lambda result: _rank(result.total))
    scorer.honest = Honest(gold=gold.scores, mistake=mistake.scores)
    return Levels(gold.total or 0.0, mistake)


def sources(result: Result, levels: Levels, weights: Mapping[str, float]) -> list[str]:
    """Return the members that give a strategy more than a hundredth of its gain, the one that gives most first."""
    gain = _rank(result.total) - levels.lowest
    shares = {
        name: weights[name] * (score - levels.mistake.scores.get(name, 0.0))
        for name, score in result.scores.items()
    }
    return [name for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share > 0.01 * gain]


def search(
    scorer: Scorer,
    answers: Mapping[str, Piece],
    levels: Levels,
    weights: Mapping[str, float],
    *,
    until: float,
    seed: int = 0,
) -> list[Found]:
    """Return the exploits that were found, one for each set of members that score them high, the highest total first.

    Args:
        scorer: Scores strategies.
        answers: The answers to try.
        levels: The totals to compare with.
        weights: Of the members.
        until: When to end, in seconds of `time.perf_counter`.
        seed: Of the choices; with enough time the same seed gives the same exploits.
    """
    pool = _Pool(scorer)
    singles = [*single_deviations(answers), *shaped_hedges(answers)]
    slow = [strategy for strategy in singles if IN_TIME in strategy.closed_by(answers)]
    fast = [strategy for strategy in singles if strategy not in slow]
    batches = [fast[start : start + _BATCH] for start in range(0, len(fast), _BATCH)]
    for batch in [*batches, *([strategy] for strategy in slow)]:
        pool.add(batch, until)
    choices = random.Random(seed)
    usable = {name: piece for name, piece in answers.items() if name not in pool.late}
    while time.perf_counter() < until and pool.idle < pool.patience(levels.bound):
        parents = pool.parents()
        pool.add([_child(parents, choices, usable) for _ in range(_BATCH)], until)
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in sorted(pool.results(), key=lambda result: -_rank(result.total)):
        if _rank(result.total) > levels.bound:
            groups.setdefault(tuple(sorted(sources(result, levels, weights))), []).append(result)
    return [_simplest(pool, results, levels) for results in list(groups.values())[:_MOST_EXPLOITS]]


def confirmed(scorer: Scorer, levels: Levels, exploits: Sequence[Found]) -> list[Found]:
    """Return the exploits that are exploits on the problems of `scorer` too, scored there."""
    results = scorer.results([exploit.result.strategy for exploit in exploits]) if exploits else []
    return [
        Found(result, exploit.also)
        for exploit, result in zip(exploits, results, strict=True)
        if _rank(result.total) > levels.bound
    ]


class _Pool:
    """The strategies that were scored."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._results: dict[Strategy, Result] = {}
        self._highest: dict[str, float] = {}  # member, or "" for the total: its highest score
        self.late: set[str] = set()  # answers that make a member late
        self.idle = 0  # batches without a higher total, or a higher score of a member

    def add(self, strategies: Sequence[Strategy], until: float) -> None:
        """Score those of `strategies` that are new, unless the time is over."""
        new = [strategy for strategy in dict.fromkeys(strategies) if strategy not in self._results]
        if not new or time.perf_counter() > until:
            self.idle += 1
            return
        before = dict(self._highest)
        for result in self._scorer.results(new):
            self._results[result.strategy] = result
            for name, score in (*result.scores.items(), ("", _rank(result.total))):
                self._highest[name] = max(self._highest.get(name, score), score)
            if is_late(result):
                self.late.update(name for name in result.strategy.answers if name != HONEST_ANSWER)
        better = any(score > before.get(name, float("-inf")) + 1e-9 for name, score in self._highest.items())
        self.idle = 0 if better else self.idle + 1

    def patience(self, bound: float) -> int:
        """Return after how many batches without progress the search ends."""
        return _PATIENCE if self._highest.get("", bound) > bound else _PATIENCE_WITHOUT

    def get(self, strategy: Strategy) -> Result:
        """Return the result of a strategy, scoring it if it is new."""
        if strategy not in self._results:
            self.add([strategy], float("inf"))
        return self._results[strategy]

    def results(self) -> list[Result]:
        """Return all results."""
        return list(self._results.values())

    def parents(self) -> list[Strategy]:
        """Return the strategies to change: the best by their total, and the best for each member."""
        results = [result for result in self._results.values() if not is_late(result)]
        best = sorted(results, key=lambda result: -_rank(result.total))[:_NUM_BEST]
        for name in dict.fromkeys(name for result in results for name in result.scores):
            highest = max(result.scores.get(name, float("-inf")) for result in results)
            of_member = [result for result in results if result.scores.get(name) == highest]
            best.append(max(of_member, key=lambda result: _rank(result.total)))
        return [result.strategy for result in best] or [Strategy()]


def _child(parents: Sequence[Strategy], choices: random.Random, answers: Mapping[str, Piece]) -> Strategy:
    parent = choices.choice(parents)
    if choices.random() < 0.3:
        return parent.crossed_with(choices.choice(parents), choices)
    return parent.changed(choices, answers)


def _simplest(pool: _Pool, results: Sequence[Result], levels: Levels) -> Found:
    """Return a strategy with one deviation and half of the highest gain, else the highest total, reduced."""
    singles = [result for result in results if len(result.strategy.deviations()) == 1]
    half = levels.lowest + 0.5 * (_rank(results[0].total) - levels.lowest)
    if singles and _rank(singles[0].total) >= half:
        return Found(singles[0], tuple(result.strategy for result in singles[1:]))
    return Found(_reduced(pool, results[0], levels), tuple(result.strategy for result in singles))


def _reduced(pool: _Pool, result: Result, levels: Levels) -> Result:
    """Return the simplest strategy that keeps most of the gain of `result`."""
    needed = levels.lowest + _KEPT * (_rank(result.total) - levels.lowest)
    while True:
        simpler = [pool.get(strategy) for strategy in result.strategy.simpler()]
        kept = [found for found in simpler if _rank(found.total) >= max(needed, levels.bound)]
        if not kept:
            return result
        result = max(kept, key=lambda found: _rank(found.total))


def _rank(total: float | None) -> float:
    return float("-inf") if total is None else total
