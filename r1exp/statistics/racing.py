"""Decides which setting of a race gets its next seed, which ones have lost, and when the best one is known.

The same seed trains every setting, so that settings are compared by paired differences, in the order of the seeds. Setting i is *covered* by
setting c once the lower bound of mean(c) - mean(i) (r1exp/statistics/confidence_sequence.py) has been above -delta. In each
round the leader c, whose least paired difference from another setting is largest, and the settings that it has not covered get a seed; those that are
behind come first. The race is decided when the leader covers every other setting.

A false choice is a leader that is more than delta worse than the best setting b. Then the sequence of the pair (c, b) was wrong at some time. There
are K - 1 such pairs, whichever setting b is, and each sequence is wrong with probability alpha / (K - 1) at most (Bonferroni), so that
false choices have probability alpha at most, however seeds are given and whenever one stops: each sequence is read in the order of its
seeds, and its bounds hold at all of them together. The scheme is that of best-arm identification with an indifference zone.

Sources: E. Even-Dar, S. Mannor and Y. Mansour (2006), Journal of Machine Learning Research 7:1079, for elimination; S. Kalyanakrishnan and others
(2012), PAC subset selection in stochastic multi-armed bandits, ICML, for leader against challengers; O. Maron and A. W. Moore (1994), Hoeffding
races, NeurIPS, for the name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from r1exp.statistics.confidence_sequence import critical_t

State = Literal["racing", "decided", "spent"]


@dataclass(frozen=True)
class Rules:
    """When a race ends."""

    first: int  # seeds that every setting gets before anything is decided
    most: int  # seeds that a setting may get
    runs: int  # runs that all settings together may get
    delta: (
        float  # a setting that is worse by at most that is as good as the best one; in units of the objective
    )
    alpha: float  # probability of a false choice, at most


@dataclass(frozen=True)
class Decision:
    """What follows from the runs so far."""

    state: State
    leader: int
    open: tuple[int, ...]  # settings that the leader does not cover
    following: tuple[int, ...]  # settings whose next seed is run now


@dataclass(frozen=True)
class Pairs:
    """Paired differences row minus column at every number of seeds; arrays [..., K settings, K, N seeds]."""

    means: Any
    bounds: Any  # the lower bound, the largest so far

    def at(self, counts: Sequence[int]) -> tuple[Any, Any]:
        """Return means and bounds [K, K] of settings of which the first `counts` seeds have been run."""
        import numpy as np

        last = np.minimum.outer(counts, counts) - 1
        rows, columns = np.indices(last.shape)
        return self.means[rows, columns, last], self.bounds[rows, columns, last]


def share_of(alpha: float, num_settings: int) -> float:
    """Return the error probability of one pair: K - 1 pairs can lead to a false choice."""
    return alpha / max(num_settings - 1, 1)


def pairs_of(scores: Any, share: float, least_spread: float = 0.0) -> Pairs:
    """Return the paired differences of settings.

    Args:
        scores: [..., K settings, N seeds]; nan where a run is missing.
        share: Probability that any bound of a pair is wrong.
        least_spread: The standard deviation of differences is not taken to be smaller; in units of the objective.
    """
    import numpy as np

    scores = np.asarray(scores, dtype=float)
    n = np.arange(1, scores.shape[-1] + 1)
    differences = scores[..., :, None, :] - scores[..., None, :, :]
    means = differences.cumsum(-1) / n
    squares = np.maximum((differences**2).cumsum(-1) - n * means**2, 0.0)
    spread = np.maximum(np.sqrt(squares / np.maximum(n - 1, 1)), least_spread)
    critical = np.array([critical_t(int(count), share) for count in n])
    known = np.isfinite(critical)
    bounds = np.full(means.shape, -np.inf)
    bounds[..., known] = means[..., known] - critical[known] * spread[..., known] / np.sqrt(n[known])
    bounds = np.where(np.isnan(bounds), -np.inf, bounds)
    return Pairs(means, np.maximum.accumulate(bounds, axis=-1))


def decide(means: Any, bounds: Any, counts: Sequence[int], rules: Rules) -> Decision:
    """Return the decision after `counts` seeds of each setting.

    Args:
        means: Paired mean differences [K, K], row minus column.
        bounds: Their lower bounds [K, K].
        counts: Seeds of each setting.
        rules: When the race ends.
    """
    import numpy as np

    least = min(counts)
    others = np.where(np.eye(len(counts), dtype=bool), np.inf, means)
    leader = int(np.argmax(np.nan_to_num(others, nan=-np.inf, posinf=np.inf).min(axis=1))) if least > 0 else 0
    if least < rules.first:
        behind = tuple(i for i, count in enumerate(counts) if count == least)
        return _within(rules, counts, leader, tuple(i for i in range(len(counts)) if i != leader), behind)
    uncovered = tuple(i for i in range(len(counts)) if i != leader and bounds[leader, i] <= -rules.delta)
    if not uncovered:
        return Decision("decided", leader, (), ())
    group = (leader, *uncovered)
    least = min(counts[i] for i in group)
    behind = tuple(sorted(i for i in group if counts[i] == least)) if least < rules.most else ()
    return _within(rules, counts, leader, uncovered, behind)


def _within(
    rules: Rules, counts: Sequence[int], leader: int, uncovered: tuple[int, ...], behind: tuple[int, ...]
) -> Decision:
    if not behind or sum(counts) + len(behind) > rules.runs:
        return Decision("spent", leader, uncovered, ())
    return Decision("racing", leader, uncovered, behind)


def raced(scores: Any, pairs: Pairs, rules: Rules) -> tuple[Decision, list[int]]:
    """Return the last decision of a race whose runs are all known, and the seeds that each setting got.

    Args:
        scores: [K settings, N seeds], N at least `rules.most`.
        pairs: Of these scores.
        rules: When the race ends.
    """
    counts = [0] * len(scores)
    decision = Decision("racing", 0, (), tuple(range(len(counts))))
    while decision.following:
        for setting in decision.following:
            counts[setting] += 1
        decision = decide(*pairs.at(counts), counts, rules)
    return decision, counts


def expected_runs(
    num_settings: int, rules: Rules, spread: float, luck: float, races: int = 100
) -> tuple[float, float]:
    """Return the mean number of runs of simulated races, and the share of them that is decided.

    Args:
        num_settings: K.
        rules: When a race ends.
        spread: Standard deviation of the settings' means; in units of the objective.
        luck: Standard deviation of the runs of a setting.
        races: Simulated races, always with the same random numbers.
    """
    import numpy as np

    generator = np.random.default_rng(17)
    means = spread * generator.standard_normal((races, num_settings, 1))
    scores = means + luck * generator.standard_normal((races, num_settings, rules.most))
    pairs = pairs_of(scores, share_of(rules.alpha, num_settings))
    found = [
        raced(each, Pairs(pairs.means[race], pairs.bounds[race]), rules) for race, each in enumerate(scores)
    ]
    runs = float(np.mean([sum(counts) for _, counts in found]))
    return runs, float(np.mean([decision.state == "decided" for decision, _ in found]))
