"""Computes intervals over training seeds and problems: runs that differ in the seed, evaluated on the same problems.

    y[s, i] = mean + seed[s] + problem[i] + rest[s, i]        s = 1..S runs, i = 1..N problems

y is a proportion of correct answers, or a difference of two such proportions between runs with the same seed. The rest holds the
sampling of the answers. The interval of the mean is for other seeds, other problems and other samples:

    (distance to each bound)^2 = h^2 + max(0, t(S-1)^2 MS_seed - t(N-1)^2 MS_rest) / (S N)

h is the distance of the interval over problems and sampling, with all runs' answers to a problem as one cluster
(`intervals`, `paired`); MS are the mean squares of the two-way analysis of variance and t the quantiles of Student's t. It is
the modified large-sample interval of a sum of variance components, which holds with two seeds, where intervals with
Satterthwaite's degrees of freedom cover 88 %, and those of a bootstrap over two seeds far less.

Sources: R. K. Burdick and F. A. Graybill (1992), Confidence Intervals on Variance Components, chapter 3; F. A. Graybill and
C. M. Wang (1980), JASA 75:869. Measured for 2 to 10 seeds: docs/statistics.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from r1exp.statistics.intervals import ALPHA, Clusters, Interval
from r1exp.statistics.paired import difference_bounds
from r1exp.statistics.student import quantile

Outcomes = Sequence[Sequence[bool]]  # for each problem, whether each answer is correct


@dataclass(frozen=True, slots=True)
class CrossedDifference:
    """The difference between two settings over runs with the same seeds, with its 95 % interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float  # the smallest alpha whose 1 - alpha interval does not hold 0
    num_seeds: int
    num_problems: int


def crossed_proportion(runs: Sequence[Outcomes]) -> Interval:
    """Return the proportion of correct answers over at least two runs, with its interval; `n` counts runs.

    Raises:
        ValueError: there are fewer than two runs, or their problems or numbers of answers differ.
    """
    counts, size = _counts(runs)
    low, high = proportion_bounds(counts, size)
    return Interval(float(counts.mean() / size), len(runs), max(float(low), 0.0), min(float(high), 1.0))


def crossed_difference(before: Sequence[Outcomes], after: Sequence[Outcomes]) -> CrossedDifference:
    """Return the difference after - before over at least two pairs of runs that share a seed.

    Raises:
        ValueError: there are fewer than two pairs, or their problems or numbers of answers differ.
    """
    (first, size_1), (second, size_2) = _counts(before), _counts(after)
    if first.shape != second.shape:
        raise ValueError(
            f"{first.shape} and {second.shape} runs and problems; a comparison needs the same of both"
        )

    def at(alpha: float) -> tuple[float, float]:
        low, high = crossed_bounds(first, size_1, second, size_2, alpha)
        return float(low), float(high)

    difference = float(second.mean() / size_2 - first.mean() / size_1)
    low, high = at(ALPHA)
    return CrossedDifference(
        difference, low, high, _p_value(at, difference), num_seeds=len(before), num_problems=first.shape[1]
    )


def proportion_bounds(counts: Any, size: int, alpha: float = ALPHA) -> tuple[Any, Any]:
    """Return the interval of the proportion of correct answers.

    Args:
        counts: Correct answers, an array (..., S, N).
        size: Answers to each problem in each run.
        alpha: Probability that the interval does not hold the true value.
    """
    import numpy as np

    pooled = clusters(counts, size)
    low, high = pooled.bounds(alpha)
    seeds = seed_part(counts / size, alpha)
    share = pooled.share
    return share - np.sqrt((share - low) ** 2 + seeds), share + np.sqrt((high - share) ** 2 + seeds)


def crossed_bounds(
    first: Any, size_1: int, second: Any, size_2: int, alpha: float = ALPHA
) -> tuple[Any, Any]:
    """Return the interval of the difference, second - first; the arguments are those of `proportion_bounds`."""
    import numpy as np

    sides = clusters(first, size_1), clusters(second, size_2)
    low, high = difference_bounds(*sides, pooled_correlation(first, second), alpha)
    difference = sides[1].share - sides[0].share
    seeds = seed_part(second / size_2 - first / size_1, alpha)
    return (
        difference - np.sqrt((difference - low) ** 2 + seeds),
        difference + np.sqrt((high - difference) ** 2 + seeds),
    )


def clusters(counts: Any, size: int) -> Clusters:
    """Return the sums over problems; all runs' answers to a problem are one cluster. Takes an array (..., S, N)."""
    pooled = counts.sum(axis=-2)
    (num_seeds, num), total = counts.shape[-2:], pooled.sum(axis=-1)
    size = size * num_seeds
    return Clusters(
        num=num,
        trials=num * size,
        trials_squared=num * size**2,
        successes=total,
        successes_squared=(pooled * pooled).sum(axis=-1),
        both=total * size,
    )


def pooled_correlation(first: Any, second: Any) -> Any:
    """Return the correlation over problems of two arrays (..., S, N), summed over runs; 0 if one has no spread."""
    import numpy as np

    sums = [side.sum(axis=-2) for side in (first, second)]
    one, two = (side - side.mean(axis=-1, keepdims=True) for side in sums)
    squares = (one * one).sum(axis=-1) * (two * two).sum(axis=-1)
    both = (one * two).sum(axis=-1)
    return np.where(squares > 1e-12, both / np.sqrt(np.maximum(squares, 1e-12)), 0.0)


def seed_part(values: Any, alpha: float = ALPHA) -> Any:
    """Return the square that training seeds add to the distance of a bound. Takes an array (..., S, N)."""
    import numpy as np

    num_seeds, num = values.shape[-2:]
    mean = values.mean(axis=(-2, -1), keepdims=True)
    of_seed = values.mean(axis=-1, keepdims=True) - mean
    of_problem = values.mean(axis=-2, keepdims=True) - mean
    rest = values - mean - of_seed - of_problem
    square_seed = num * (of_seed**2).sum(axis=(-2, -1)) / (num_seeds - 1)
    square_rest = (rest**2).sum(axis=(-2, -1)) / max((num_seeds - 1) * (num - 1), 1)
    part = quantile(num_seeds - 1, alpha) ** 2 * square_seed - quantile(num - 1, alpha) ** 2 * square_rest
    return np.maximum(part, 0.0) / (num_seeds * num)


def _counts(runs: Sequence[Outcomes]) -> tuple[Any, int]:
    """Return the correct answers of each run to each problem, (S, N), and the number of answers."""
    import numpy as np

    sizes = {len(answers) for run in runs for answers in run}
    if len(runs) < 2 or len({len(run) for run in runs}) != 1 or len(sizes) != 1 or min(map(len, runs)) < 2:
        raise ValueError(
            f"{len(runs)} runs with {sorted({len(run) for run in runs})} problems and {sorted(sizes)} answers to each; an "
            "interval over seeds needs at least two runs with the same problems, at least two, and numbers of answers"
        )
    return np.array([[sum(answers) for answers in run] for run in runs], dtype=float), sizes.pop()


def _p_value(at: Any, difference: float) -> float:
    """Return the smallest alpha whose interval excludes 0, by bisection of its logarithm; at least 1e-9."""
    if difference == 0.0:
        return 1.0
    least, most = -9.0, 0.0  # powers of ten
    for _ in range(30):
        middle = (least + most) / 2.0
        low, high = at(10.0**middle)
        if low > 0.0 or high < 0.0:
            most = middle
        else:
            least = middle
    return float(10.0 ** ((least + most) / 2.0))
