"""Tests the difference between two measurements of the same problems.

One answer per problem: McNemar's exact two-sided test (binomial on the problems whose outcome changed)
    and Newcombe's interval for the paired difference (method 10: Wilson's bounds, squared and added,
    with the correlation of the pairs).
Several answers per problem: the paired t test on each problem's proportion of correct answers.

Sources: Q. McNemar (1947), Psychometrika 12:153; R. G. Newcombe (1998), Statistics in Medicine 17:2635.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from r1exp.statistics.intervals import mean_interval, proportion
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
    only_before = sum(b and not a for b, a in zip(before, after, strict=True))
    only_after = sum(a and not b for b, a in zip(before, after, strict=True))
    both = sum(b and a for b, a in zip(before, after, strict=True))
    neither = len(before) - both - only_before - only_after
    low, high = _newcombe(both, only_after, only_before, neither)
    return PairedTest(
        difference=(only_after - only_before) / len(before),
        low=low,
        high=high,
        p_value=_exact_p(only_before, only_after),
        n=len(before),
        only_before=only_before,
        only_after=only_after,
        method="mcnemar",
    )


def paired_t(before: Sequence[float], after: Sequence[float]) -> PairedTest:
    """Compare two means of each problem.

    Raises:
        ValueError: the lists have different lengths, or fewer than two values.
    """
    _check_pairs(len(before), len(after), at_least=2)
    differences = [a - b for b, a in zip(before, after, strict=True)]
    interval = mean_interval([[difference] for difference in differences])
    spread = math.fsum((d - interval.value) ** 2 for d in differences) / (len(differences) - 1)
    if spread > 0.0:
        t = interval.value / math.sqrt(spread / len(differences))
        p_value = two_sided_p(t, len(differences) - 1)
    else:
        p_value = 1.0 if interval.value == 0.0 else 0.0
    return PairedTest(
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        p_value=p_value,
        n=len(differences),
        only_before=sum(d < 0 for d in differences),
        only_after=sum(d > 0 for d in differences),
        method="paired_t",
    )


def _check_pairs(num_before: int, num_after: int, *, at_least: int) -> None:
    if num_before != num_after or num_before < at_least:
        raise ValueError(
            f"{num_before} outcomes before and {num_after} after; a paired test needs the same problems, "
            f"at least {at_least}"
        )


def _exact_p(b: int, c: int) -> float:
    """Return the exact two-sided p-value: twice the smaller binomial tail of b against c, at most 1."""
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1))
    return float(min(Fraction(2 * tail, 2 ** (b + c)), Fraction(1)))


def _newcombe(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """Return the interval of the first proportion minus the second, from the four cells of the paired table."""
    n = both + only_first + only_second + neither
    first, second = proportion(both + only_first, n), proportion(both + only_second, n)
    correlation = _correlation(both, only_first, only_second, neither)

    def half_width(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0))

    difference = (only_first - only_second) / n
    low = difference - half_width(first.value - first.low, second.high - second.value)
    high = difference + half_width(first.high - first.value, second.value - second.low)
    return low, high


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Return phi of the paired table with Newcombe's continuity correction; 0 if a margin is empty."""
    n = both + only_first + only_second + neither
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    excess: float = both * neither - only_first * only_second
    if excess > 0:
        excess = max(excess - n / 2, 0.0)
    return excess / math.sqrt(margins)
