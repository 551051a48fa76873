"""Tests the difference between two measurements of the same problems.

Interval: from the intervals [l, u] of the two proportions and the correlation r of the problems' numbers of correct answers,

    low  = d - sqrt((p2 - l2)^2 - 2 r (p2 - l2) (u1 - p1) + (u1 - p1)^2)        d = p2 - p1
    high = d + sqrt((u2 - p2)^2 - 2 r (u2 - p2) (p1 - l1) + (p1 - l1)^2)

    for one answer per problem and for several. It has a width also where every problem has the same difference.
p-value, one answer per problem: McNemar's mid-P test, the exact binomial test on the problems whose outcome changed, less
    half the probability of what was observed. The exact test itself rejects in far less than 5 % of A/A comparisons.
p-value, several answers per problem: the paired t test on each problem's proportion of correct answers, but at least
    2^(1-k), the smallest p-value of a sign-flip test, where the proportion of k problems changed.

Both hold the luck of problems and of sampling, and not that of training: two models are compared, not two ways to train.

Sources: G. Y. Zou and A. Donner (2008), Statistics in Medicine 27:1693, and R. G. Newcombe (1998), Statistics in Medicine
17:2635, for the interval; M. W. Fagerland, S. Lydersen and P. Laake (2013), BMC Medical Research Methodology 13:91, for
McNemar's mid-P test; R. A. Fisher (1935), The Design of Experiments, for sign flips. Measured: docs/statistics.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from r1exp.statistics.intervals import ALPHA, Clusters
from r1exp.statistics.student import two_sided_p


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The difference after - before on the same problems, with its 95 % interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int  # problems
    only_before: int  # problems that became worse
    only_after: int  # problems that became better
    method: Literal["mcnemar", "paired_t"]


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> PairedTest:
    """Compare two outcomes of each problem.

    Raises:
        ValueError: the lists are empty or have different lengths.
    """
    _check_pairs(len(before), len(after), at_least=1)
    sides = ([[outcome] for outcome in before], [[outcome] for outcome in after])
    changes = [int(a) - int(b) for b, a in zip(before, after, strict=True)]
    only_before, only_after = changes.count(-1), changes.count(1)
    p_value = mid_p(only_before, only_after)
    return _test(*sides, changes, p_value, "mcnemar")


def paired_t(before: Sequence[Sequence[bool]], after: Sequence[Sequence[bool]]) -> PairedTest:
    """Compare the outcomes of several answers to each problem.

    Args:
        before: For each problem, whether each answer is correct.
        after: The same; the numbers of answers need not be equal.

    Raises:
        ValueError: the lists have different lengths, or fewer than two problems, or one without answers.
    """
    _check_pairs(len(before), len(after), at_least=2)
    changes = [sum(a) / len(a) - sum(b) / len(b) for b, a in zip(before, after, strict=True)]
    return _test(before, after, changes, p_of_changes(changes), "paired_t")


def _test(
    before: Sequence[Sequence[bool]],
    after: Sequence[Sequence[bool]],
    changes: Sequence[float],
    p_value: float,
    method: Literal["mcnemar", "paired_t"],
) -> PairedTest:
    low, high = difference_bounds(Clusters.of(before), Clusters.of(after), correlation(before, after))
    return PairedTest(
        difference=math.fsum(changes) / len(changes),
        low=float(low),
        high=float(high),
        p_value=p_value,
        n=len(changes),
        only_before=sum(change < 0 for change in changes),
        only_after=sum(change > 0 for change in changes),
        method=method,
    )


def difference_bounds(
    first: Clusters, second: Clusters, correlation: Any, alpha: float = ALPHA
) -> tuple[Any, Any]:
    """Return the interval of the second proportion minus the first; numbers, or arrays of many samples."""
    import numpy as np

    (low_1, high_1), (low_2, high_2) = first.bounds(alpha), second.bounds(alpha)
    up_1, down_1 = high_1 - first.share, first.share - low_1
    up_2, down_2 = high_2 - second.share, second.share - low_2

    def half_width(a: Any, b: Any) -> Any:
        return np.sqrt(np.maximum(a * a - 2 * correlation * a * b + b * b, 0.0))

    difference = second.share - first.share
    return difference - half_width(down_2, up_1), difference + half_width(up_2, down_1)


def correlation(first: Sequence[Sequence[bool]], second: Sequence[Sequence[bool]]) -> float:
    """Return the correlation of the problems' residuals, correct answers less expected ones; 0 if one side has no spread."""
    residuals = []
    for side in (first, second):
        share = sum(map(sum, side)) / sum(map(len, side))
        residuals.append([sum(answers) - share * len(answers) for answers in side])
    squares = [math.fsum(r * r for r in side) for side in residuals]
    if min(squares) < 1e-12:
        return 0.0
    both = math.fsum(a * b for a, b in zip(*residuals, strict=True))
    return max(-1.0, min(both / math.sqrt(squares[0] * squares[1]), 1.0))


def mid_p(only_before: int, only_after: int) -> float:
    """Return the p-value of McNemar's mid-P test from the numbers of problems that became worse and better."""
    from scipy.special import bdtr, comb

    changed, fewer = only_before + only_after, min(only_before, only_after)
    if only_before == only_after:
        return 1.0
    observed = comb(changed, fewer) * 0.5**changed if changed < 1000 else _half_pmf(changed, fewer)
    return float(min(2.0 * bdtr(fewer, changed, 0.5) - observed, 1.0))


def _half_pmf(n: int, k: int) -> float:
    """Return the probability of k heads in n fair tosses, also where 2^-n is 0 in float64."""
    return math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2.0))


def p_of_changes(changes: Sequence[float]) -> float:
    """Return the p-value of the t test on the changes, at least that of the strongest sign-flip test."""
    num_changed = sum(change != 0.0 for change in changes)
    least = min(2.0 ** (1 - num_changed), 1.0)
    mean = math.fsum(changes) / len(changes)
    squares = math.fsum((change - mean) ** 2 for change in changes)
    if squares == 0.0:
        return least
    t = mean / math.sqrt(squares / (len(changes) - 1) / len(changes))
    return max(two_sided_p(t, len(changes) - 1), least)


def _check_pairs(num_before: int, num_after: int, *, at_least: int) -> None:
    if num_before != num_after or num_before < at_least:
        raise ValueError(
            f"{num_before} outcomes before and {num_after} after; a paired test needs the same problems, "
            f"at least {at_least}"
        )
