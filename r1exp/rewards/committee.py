"""Who scores what? The members of the committee, over the rows of one batch.

A batch is two parallel lists, problems and completions; the completions of one prompt stand
together. Every member scores the rows it applies to: alone, a group at once, or a batch at once,
whichever its class is. The work is cut into units that do not depend on each other, so that ranks
can share it (`r1exp.rewards.ranks`) and still agree on every number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from r1exp.records import Completion, Problem
from r1exp.rewards.base import NOT_APPLICABLE, Context, GroupReward, Reward, Score


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of work that must stay whole: some rows of the batch, for one member."""

    name: str  # the member
    rows: tuple[int, ...]  # positions in the batch


def groups_of(problems: Sequence[Problem]) -> list[tuple[int, ...]]:
    """Return the positions of each group: the neighbours that answer the same problem."""
    runs = groupby(range(len(problems)), key=lambda row: (problems[row].id, problems[row].prompt))
    return [tuple(rows) for _, rows in runs]


class Committee:
    """Named rewards that score together. The names are the keys of the `rewards` mapping."""

    def __init__(self, rewards: Mapping[str, Reward]) -> None:
        if not rewards:
            raise ValueError("the committee has no member; choose one, for example rewards=graded")
        self.rewards = dict(rewards)

    @property
    def names(self) -> list[str]:
        """The members, in the order of the mapping."""
        return list(self.rewards)

    @property
    def weights(self) -> list[float]:
        """The members' weights, in the same order."""
        return [reward.weight for reward in self.rewards.values()]

    def score(
        self, problems: Sequence[Problem], completions: Sequence[Completion], context: Context
    ) -> dict[str, list[Score]]:
        """Return every member's score of every row."""
        done = {unit: self.score_unit(unit, problems, completions, context) for unit in self.units(problems)}
        return self.assemble(done, len(problems))

    def units(self, problems: Sequence[Problem]) -> list[Unit]:
        """Cut the batch into units, the same way whatever the number of ranks."""
        groups = groups_of(problems)
        units: list[Unit] = []
        for name, reward in self.rewards.items():
            mine = [rows for rows in groups if reward.applies(problems[rows[0]])]
            if isinstance(reward, GroupReward):
                units += [Unit(name, rows) for rows in mine]
            else:
                units += [Unit(name, (row,)) for rows in mine for row in rows]
        return units

    def score_unit(
        self, unit: Unit, problems: Sequence[Problem], completions: Sequence[Completion], context: Context
    ) -> list[Score]:
        """Return the scores of the rows of one unit."""
        reward = self.rewards[unit.name]
        if isinstance(reward, GroupReward):
            problem = problems[unit.rows[0]]
            return reward.score_group(problem, [completions[row] for row in unit.rows], context)
        return [reward.score(problems[row], completions[row], context) for row in unit.rows]

    def assemble(self, done: Mapping[Unit, Sequence[Score]], num_rows: int) -> dict[str, list[Score]]:
        """Put the scores of all units in their rows; rows without a score are not applicable."""
        table: dict[str, list[Score]] = {name: [NOT_APPLICABLE] * num_rows for name in self.rewards}
        for unit, scores in done.items():
            for row, score in zip(unit.rows, scores, strict=True):
                table[unit.name][row] = score
        return table
