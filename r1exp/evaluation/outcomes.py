"""Computes an accuracy with its interval from outcomes, and compares two lists of outcomes.

Outcomes are a list per problem with a bool per sample. The statistical unit is the problem: samples of the
same problem are correlated, so more of them narrow the interval less than more problems do.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from r1exp.statistics.intervals import Interval, clustered_proportion
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
