"""How do ranks score a batch together, so that the cut of the batch does not matter?

Each rank holds a slice of the batch, in rank order. A group may lie across two ranks, and slow rows
may all lie on one. So every rank is told all rows, works on its share of the units, dealt out in
turn within each member, and all shares are put together on every rank: the same table on 1, 2 or 4
ranks. Both exchanges happen on every rank at every call, whatever the rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from r1exp.errors import R1ExpError
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context, Score
from r1exp.rewards.committee import Batch, Committee, Done, Unit


@dataclass(frozen=True, slots=True)
class Ranks:
    """Who else is scoring.

    `gather` returns the joined lists of all ranks, in rank order, on every rank, as
    `accelerate.utils.gather_object` does.
    """

    rank: int
    num_ranks: int
    gather: Callable[[list[Any]], list[Any]]


ALONE = Ranks(0, 1, list)


@dataclass(frozen=True, slots=True)
class Scored:
    """The whole batch, scored; the same on every rank but for `own`."""

    batch: Batch
    table: dict[str, list[Score]]  # member: one score a row of the whole batch
    seconds: dict[str, float]  # member: the slowest rank's time
    own: slice  # the rows that this rank brought


def score_together(
    committee: Committee,
    problems: Sequence[Problem],
    completions: Sequence[Completion],
    context: Context,
    ranks: Ranks = ALONE,
) -> Scored:
    """Score the slices of all ranks. Every rank calls this, the same number of times.

    Raises:
        R1ExpError: a member said on some rank why it cannot go on; raised on every rank.
    """
    slices = ranks.gather([_packed(problems, completions)])
    batch = Batch(
        [problem for slice_ in slices for problem in _unpacked(slice_)],
        [completion for _, _, answers in slices for completion in answers],
        context,
    )
    start = sum(len(answers) for _, _, answers in slices[: ranks.rank])
    outcomes = ranks.gather([_work(committee, _share(committee.units(batch), ranks), batch)])
    for outcome in outcomes:
        if isinstance(outcome, R1ExpError):
            raise outcome
    shares: list[Done] = outcomes
    scores = {unit: result for share in shares for unit, result in share.scores.items()}
    seconds = {name: max(share.seconds[name] for share in shares) for name in committee.names}
    table = committee.assemble(scores, batch)
    return Scored(batch, table, seconds, slice(start, start + len(completions)))


def _work(committee: Committee, units: Sequence[Unit], batch: Batch) -> Done | R1ExpError:
    """Return what came of the units; trouble with a message is passed on, so that no rank waits."""
    try:
        return committee.work(units, batch)
    except R1ExpError as trouble:
        return trouble


def _share(units: Sequence[Unit], ranks: Ranks) -> list[Unit]:
    """Deal out the units of each member in turn."""
    mine = []
    for name in dict.fromkeys(unit.name for unit in units):
        of_member = [unit for unit in units if unit.name == name]
        mine += of_member[ranks.rank :: ranks.num_ranks]
    return mine


def _packed(
    problems: Sequence[Problem], completions: Sequence[Completion]
) -> tuple[list[Problem], list[int], list[Completion]]:
    """Return each problem once, which of them every row answers, and the completions."""
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
