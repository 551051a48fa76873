"""Computes the weighted total of each completion: the reward that training, sampling and `check` use.

    total = sum_k w_k * r_k    over the members k that scored the completion

An abstention has no score. Before totals are compared inside a group, `impute_group_mean` gives an
abstaining completion the mean of its group under that member, so that its advantage is decided by the
other members. TRL alone would count an abstention as 0.
"""

import math
from collections.abc import Mapping, Sequence

from r1exp.rewards.base import Abstain, Score

Column = Sequence[float | None]  # one member's score of each completion; None: no score


def impute_group_mean(scores: Sequence[Score], groups: Sequence[tuple[int, ...]]) -> list[float | None]:
    """Return `scores` with each abstention replaced by the mean of the scores in its group.

    Args:
        scores: One member's score of each completion.
        groups: Positions of the completions of each group.

    Returns:
        One number for each completion; None in groups where the member scored no completion.
    """
    imputed: list[float | None] = [None if isinstance(score, Abstain) else score for score in scores]
    for rows in groups:
        known = [score for row in rows if not isinstance(score := scores[row], Abstain)]
        if known and len(known) < len(rows):
            mean = math.fsum(known) / len(known)
            for row in rows:
                imputed[row] = mean if imputed[row] is None else imputed[row]
    return imputed


def weighted_totals(columns: Mapping[str, Column], weights: Mapping[str, float]) -> list[float | None]:
    """Return the weighted total of each completion.

    Args:
        columns: For each member, its score of each completion.
        weights: For each member, its weight.

    Returns:
        For each completion, the sum of weight times score over the members that scored it, rounded
        once; None where no member scored it.
    """
    names = list(columns)
    totals: list[float | None] = []
    for row in zip(*columns.values(), strict=True):
        known = [(weights[name], score) for name, score in zip(names, row, strict=True) if score is not None]
        # A member with weight 0 adds nothing, even if its score is infinite.
        parts = [weight * score for weight, score in known if weight != 0.0]
        totals.append(math.fsum(parts) if known else None)
    return totals


def weighted_totals_of_rows(rows: Sequence[Sequence[float]], weights: Sequence[float]) -> list[float]:
    """Return the weighted total of each completion, for tables where NaN stands for "no score".

    Args:
        rows: For each completion, the score of each member.
        weights: The weights of the members, in the same order.

    Returns:
        One number for each completion; NaN where no member scored it.
    """
    columns = {
        str(member): [None if math.isnan(row[member]) else row[member] for row in rows]
        for member in range(len(weights))
    }
    totals = weighted_totals(columns, {str(member): weight for member, weight in enumerate(weights)})
    return [math.nan if total is None else total for total in totals]
