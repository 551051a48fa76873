"""From right and wrong to figures: one accuracy with its interval, two of them compared.

Outcomes are a list per problem of a bool per sample. The unit is the problem: several samples of one
resemble each other, so they widen the interval less than new problems would narrow it.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from r1exp.statistics.intervals import Interval, clustered_proportion
from r1exp.statistics.paired import mcnemar, paired_t

Outcomes = Sequence[Sequence[bool]]


def accuracy(outcomes: Outcomes) -> Interval:
    """Return the share of right answers with its 95 % interval; `n` counts problems."""
    return clustered_proportion(outcomes)


def compare(before: Outcomes, after: Outcomes) -> dict[str, Any]:
    """Return the `PairedTest` of after against before, on the same problems in the same order, as a mapping.

    One answer a problem on both sides: McNemar's exact test. Several: the paired t test on each
    problem's share of right answers. Raises ValueError where the problems do not pair up.
    """
    if all(len(answers) == 1 for answers in [*before, *after]):
        test = mcnemar([answer for [answer] in before], [answer for [answer] in after])
    else:
        test = paired_t(*([sum(answers) / len(answers) for answers in side] for side in (before, after)))
    return asdict(test)
