"""Computes the metrics of a scored batch, and stops a run in which too few completions can be scored.

For member k with weight w_k and score r_k, R = sum_k w_k r_k the total, and d the deviation of a
completion from the mean of its group:

    variance_share_k = sum(d(w_k r_k) * d(R)) / sum(d(R)^2)

summed over all completions of the batch. The shares add up to 1. A member that is constant inside
every group has share 0: it adds nothing to GRPO's advantage. A member with a negative share counteracts
the total.

`weight_0_score` is the mean score of the members with weight 0 that judge correctness, each as a share of its span: what the
policy does not learn to please. Where it falls while `reward` rises, the policy exploits the rewards that it is given
(the rule `reward_hacking` of r1exp.health).
"""

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence

from pydantic import PositiveInt

from r1exp.errors import StoppedByHealth
from r1exp.rewards.base import NOT_APPLICABLE, Abstain, Score, Span
from r1exp.rewards.ranks import Scored
from r1exp.rewards.total import Column, weighted_totals
from r1exp.settings import Probability, Settings

_SAME = 1e-6  # points; totals closer than this are equal


def variance_shares(
    columns: Mapping[str, Column], weights: Mapping[str, float], groups: Sequence[tuple[int, ...]]
) -> dict[str, float]:
    """Return each member's share of the within-group variance; empty where no group has any.

    Args:
        columns: For each member, its score of each completion, abstentions imputed.
        weights: For each member, its weight.
        groups: Positions of the completions of each group.
    """
    total = _deviations(_known(weighted_totals(columns, weights)), groups)
    whole = math.fsum(value * value for value in total)
    if whole < 1e-12 * len(total):
        return {}
    shares = {}
    for name, column in columns.items():
        part = _deviations([weights[name] * score for score in _known(column)], groups)
        shares[name] = math.fsum(a * b for a, b in zip(part, total, strict=True)) / whole
    return shares


def signal_share(
    columns: Mapping[str, Column], weights: Mapping[str, float], groups: Sequence[tuple[int, ...]]
) -> float:
    """Return the share of groups whose weighted totals differ: only those have advantages other than 0.

    TRL's `frac_reward_zero_std` compares a float32 standard deviation with 1e-8, which rounding alone
    exceeds: it counts eight completions with the total 2.8 as a group whose totals differ.
    """
    totals = _known(weighted_totals(columns, weights))
    spreads = [max(totals[row] for row in rows) - min(totals[row] for row in rows) for rows in groups]
    return sum(spread > _SAME for spread in spreads) / max(len(groups), 1)


def equal_below_best_share(
    columns: Mapping[str, Column],
    weights: Mapping[str, float],
    groups: Sequence[tuple[int, ...]],
    best: float,
) -> float:
    """Return the share of groups whose weighted totals are all the same, and lower than `best`, the highest possible one.

    Groups whose totals are all the highest possible one have no signal either, because they are solved.
    """
    totals = _known(weighted_totals(columns, weights))
    highest = [max(totals[row] for row in rows) for rows in groups]
    alike = [
        high - min(totals[row] for row in rows) <= _SAME for high, rows in zip(highest, groups, strict=True)
    ]
    found = [same and high < best - _SAME for same, high in zip(alike, highest, strict=True)]
    return sum(found) / max(len(groups), 1)


def abstentions(scores: Sequence[Score]) -> tuple[Counter[str], int]:
    """Return the number of abstentions for each reason, and the number of rows the member applied to."""
    reasons = Counter(score.reason for score in scores if isinstance(score, Abstain))
    num_applied = len(scores) - reasons.pop(NOT_APPLICABLE.reason, 0)
    return reasons, num_applied


class Metrics:
    """Computes the committee's metrics of each batch.

    A reason for abstaining that occurred once is reported in all later batches, with 0 where it does
    not occur.

    Args:
        judges: Members with weight 0 that judge correctness: name -> lowest and highest score.
        best: The highest possible total; None, or infinite: not known.
    """

    def __init__(self, judges: Mapping[str, Span] | None = None, best: float | None = None) -> None:
        self._judges = judges or {}
        self._best = None if best is None or math.isinf(best) else best
        self._seen: set[tuple[str, str]] = set()

    def compute(
        self, scored: Scored, weights: Mapping[str, float], columns: Mapping[str, Column]
    ) -> dict[str, float]:
        """Return the metrics of one batch. TRL itself logs every member's mean and std.

        Args:
            scored: The batch of all ranks.
            weights: For each member, its weight.
            columns: For each member, its score of each completion, abstentions imputed.
        """
        groups = scored.batch.groups
        metrics: dict[str, float] = {"groups_with_signal": signal_share(columns, weights, groups)}
        if self._best is not None:
            metrics["groups_equal_below_best"] = equal_below_best_share(columns, weights, groups, self._best)
        if (judged := self._judged(columns)) is not None:
            metrics["weight_0_score"] = judged
        shares = variance_shares(columns, weights, groups)
        for name, scores in scored.table.items():
            reasons, num_applied = abstentions(scores)
            self._seen |= {(name, reason) for reason in reasons}
            metrics[f"rewards/{name}/seconds"] = scored.seconds[name]
            metrics[f"rewards/{name}/abstained"] = reasons.total() / max(num_applied, 1)
            if name in shares:
                metrics[f"rewards/{name}/variance_share"] = shares[name]
            for reason in sorted(reason for member, reason in self._seen if member == name):
                key = f"rewards/{name}/abstained/{reason.replace(' ', '_')}"
                metrics[key] = reasons[reason] / max(num_applied, 1)
        return metrics

    def _judged(self, columns: Mapping[str, Column]) -> float | None:
        """Return the mean score of the members with weight 0 that judge correctness, in [0, 1]; None without any score."""
        shares = [
            (score - low) / (high - low)
            for name, (low, high) in self._judges.items()
            for score in columns[name]
            if score is not None
        ]
        return math.fsum(shares) / len(shares) if shares else None


class AbstentionBound(Settings):
    """The share of abstentions at which a run is stopped."""

    share: Probability = 0.5  # of the rows a member applies to
    num_batches: PositiveInt = 4  # the last batches, counted together


class AbstentionWatch:
    """Stops a run in which a member abstains too often, instead of training on the remaining scores.

    To be given the members with a positive weight only: abstentions of the others change no total.
    """

    def __init__(self, bound: AbstentionBound) -> None:
        self._bound = bound
        self._history: dict[str, deque[tuple[Counter[str], int]]] = {}
        self._details: dict[str, str] = {}  # member: what was last wrong with its code

    def add_batch(self, table: Mapping[str, Sequence[Score]]) -> None:
        """Count the abstentions of a batch.

        Raises:
            StoppedByHealth: a member abstained too often. All ranks get the same table, so all stop.
        """
        for name, scores in table.items():
            history = self._history.setdefault(name, deque(maxlen=self._bound.num_batches))
            history.append(abstentions(scores))
            for score in scores:
                if isinstance(score, Abstain) and score.detail:
                    self._details[name] = score.detail
            reasons = sum((counts for counts, _ in history), Counter[str]())
            num_applied = sum(applied for _, applied in history)
            full = len(history) == self._bound.num_batches
            if full and num_applied and reasons.total() / num_applied > self._bound.share:
                raise StoppedByHealth(
                    _too_many(name, reasons, num_applied, self._bound, self._details.get(name, ""))
                )


def _too_many(name: str, reasons: Counter[str], num_applied: int, bound: AbstentionBound, detail: str) -> str:
    listed = ", ".join(f"{reason} {count}x" for reason, count in reasons.most_common())
    return (
        f"the reward {name!r} could not score {reasons.total()} of {num_applied} completions in the last "
        f"{bound.num_batches} batches ({listed}{f'; last: {detail}' if detail else ''}); at most {bound.share:.0%} may stay unscored. "
        f"Fix the cause (`r1exp check` shows it), or take the reward out of the total with "
        f"rewards.{name}.weight=0"
    )


def _known(column: Column) -> list[float]:
    """Return the column with 0 where there is no score; after imputation that is a whole group."""
    return [0.0 if score is None else score for score in column]


def _deviations(values: Sequence[float], groups: Sequence[tuple[int, ...]]) -> list[float]:
    deviations = [0.0] * len(values)
    for rows in groups:
        mean = math.fsum(values[row] for row in rows) / len(rows)
        for row in rows:
            deviations[row] = values[row] - mean
    return deviations
