"""Computes an accuracy with its interval from outcomes, and compares two lists of outcomes.

Outcomes are a list per problem with a bool per sample. The statistical unit is the problem: samples of the
same problem are correlated, so more of them narrow the interval less than more problems do.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import NormalDist
from typing import Any

from r1exp.statistics.intervals import Interval, Z, clustered_proportion
from r1exp.statistics.paired import mcnemar, paired_t

Outcomes = Sequence[Sequence[bool]]


def accuracy(outcomes: Outcomes) -> Interval:
    """Return the proportion of correct answers with its 95 % interval; `n` counts problems."""
    return clustered_proportion(outcomes)


def compare(before: Outcomes, after: Outcomes) -> dict[str, Any]:
    """Return the `PairedTest` of after against before, on the same problems in the same order, as a mapping.

    With one answer per problem on both sides, this is McNemar's mid-P test; with several, the paired t test
    on each problem's proportion of correct answers.

    Raises:
        ValueError: the numbers of problems differ.
    """
    if all(len(answers) == 1 for answers in [*before, *after]):
        test = mcnemar([answer for [answer] in before], [answer for [answer] in after])
    else:
        test = paired_t(before, after)
    return asdict(test)


def compare_by_errors(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the difference of two values with standard errors, as `compare` does; None if an error is not known.

    The errors are added as if the problems were different ones, so that the interval is wider than that of a paired test.
    """
    if before["stderr"] is None or after["stderr"] is None:
        return None
    difference = after["value"] - before["value"]
    error = math.hypot(before["stderr"], after["stderr"])
    p_value = 2 * NormalDist().cdf(-abs(difference) / error) if error > 0 else float(difference == 0)
    return {
        "difference": difference,
        "low": difference - Z * error,
        "high": difference + Z * error,
        "p_value": p_value,
        "n": after["n"],
        "only_before": None,
        "only_after": None,
        "method": "standard_errors",
    }
