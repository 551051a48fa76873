"""Scores a batch on all ranks together, with the same result however the batch is split.

Each rank has a slice of the batch, in rank order. A group may be split between two ranks, and the slow
rows may all be on one. Therefore all rows are gathered on every rank, each rank scores its share of the
units (within each member, every `num_ranks`-th), and the scores are gathered on every rank: the table is
the same on 1, 2 or 4 ranks. Every rank takes part in both gathers at every call, whatever its rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from r1exp.errors import R1ExpError
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context, Score
from r1exp.rewards.committee import Batch, Committee, Unit, UnitScores


@dataclass(frozen=True, slots=True)
class Ranks:
    """The position of this process among those that score together.

    `gather` returns the joined lists of all ranks, in rank order, on every rank, as
    `accelerate.utils.gather_object` does.
    """

    rank: int
    num_ranks: int
    gather: Callable[[list[Any]], list[Any]]


ALONE = Ranks(0, 1, list)


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of the whole batch; the same on every rank except for `own`."""

    batch: Batch
    table: dict[str, list[Score]]  # member: its score of each row of the whole batch
    seconds: dict[str, float]  # member: the time of the slowest rank
    own: slice  # the rows of this rank


def score_together(
    committee: Committee,
    problems: Sequence[Problem],
    completions: Sequence[Completion],
    context: Context,
    ranks: Ranks = ALONE,
) -> Scored:
    """Score the slices of all ranks. Every rank must call this, the same number of times.

    Raises:
        R1ExpError: a member raised it on some rank; it is raised on every rank.
    """
    slices = ranks.gather([_packed(problems, completions)])
    batch = Batch(
        [problem for slice_ in slices for problem in _unpacked(slice_)],
        [completion for _, _, answers in slices for completion in answers],
        context,
    )
    start = sum(len(answers) for _, _, answers in slices[: ranks.rank])
    outcomes = ranks.gather([_scores_or_error(committee, _share(committee.units(batch), ranks), batch)])
    for outcome in outcomes:
        if isinstance(outcome, R1ExpError):
            raise outcome
    shares: list[UnitScores] = outcomes
    scores = {unit: result for share in shares for unit, result in share.scores.items()}
    seconds = {name: max(share.seconds[name] for share in shares) for name in committee.names}
    table = committee.assemble(scores, batch)
    return Scored(batch, table, seconds, slice(start, start + len(completions)))


def _scores_or_error(committee: Committee, units: Sequence[Unit], batch: Batch) -> UnitScores | R1ExpError:
    """Return the scores of the units, or the error: raised here, it would leave the other ranks waiting."""
    try:
        return committee.score_units(units, batch)
    except R1ExpError as error:
        return error


def _share(units: Sequence[Unit], ranks: Ranks) -> list[Unit]:
    """Return this rank's units: within each member, every `num_ranks`-th."""
    own = []
    for name in dict.fromkeys(unit.name for unit in units):
        of_member = [unit for unit in units if unit.name == name]
        own += of_member[ranks.rank :: ranks.num_ranks]
    return own


def _packed(
    problems: Sequence[Problem], completions: Sequence[Completion]
) -> tuple[list[Problem], list[int], list[Completion]]:
    """Return the distinct problems, for each row the position of its problem, and the completions."""
    once: list[Problem] = []
    positions: list[int] = []
    for problem in problems:
        if not once or once[-1] != problem:
            once.append(problem)
        positions.append(len(once) - 1)
    return once, positions, list(completions)


def _unpacked(packed: tuple[list[Problem], list[int], list[Completion]]) -> list[Problem]:
    once, positions, _ = packed
    return [once[position] for position in positions]
