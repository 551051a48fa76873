"""Who scores what? The members of the committee, over the rows of one batch.

A batch is two parallel lists, problems and completions; the completions of one prompt stand
together. Every member scores the rows it applies to: one by one, a group in one call, or all at
once, whichever its class is. The work is cut into units that do not depend on each other, so that
ranks can share it (`r1exp.rewards.ranks`) and still agree on every number.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from r1exp.records import Completion, Problem
from r1exp.rewards.base import (
    NOT_APPLICABLE,
    Abstain,
    BatchReward,
    BatchScorer,
    Context,
    GroupReward,
    JudgedReward,
    Reward,
    Score,
    SlowGroupReward,
    SlowReward,
)
from r1exp.rewards.total import impute_group_mean, weighted_totals
from r1exp.rewards.worker_process import Job
from r1exp.rewards.workers import WorkerPool

Openers = Mapping[str, Callable[[Any], BatchScorer]]  # by kind: how to open what this room cannot

_MOST_REMEMBERED = 100_000  # scores of slow members


@dataclass(frozen=True, slots=True)
class Batch:
    """Completions to score, the problems they answer, and when."""

    problems: Sequence[Problem]
    completions: Sequence[Completion]
    context: Context
    groups: list[tuple[int, ...]] = field(init=False)  # rows of each group

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", groups_of(self.problems))


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of work that must stay whole: some rows of the batch, for one member."""

    name: str  # the member
    rows: tuple[int, ...]  # positions in the batch


@dataclass(frozen=True, slots=True)
class Done:
    """What came of some units."""

    scores: dict[Unit, list[Score]]
    seconds: dict[str, float]  # a member: what it took


def groups_of(problems: Sequence[Problem]) -> list[tuple[int, ...]]:
    """Return the positions of each group: the neighbors that answer the same problem."""
    runs = groupby(range(len(problems)), key=lambda row: (problems[row].id, problems[row].prompt))
    return [tuple(rows) for _, rows in runs]


class Committee:
    """Named rewards that score together. The names are the keys of the `rewards` mapping.

    Args:
        rewards: The members.
        openers: For kinds whose scorer lives in a later room (`reward_model`), how to open it.
        num_workers: Processes for slow members; None takes the cores there are.

    Raises:
        ValueError: no member, or a member that builds on one that is missing or judges nothing.
    """

    def __init__(
        self, rewards: Mapping[str, Reward], openers: Openers | None = None, num_workers: int | None = None
    ) -> None:
        _refuse_what_cannot_work(rewards)
        self.rewards = dict(rewards)
        self._openers = dict(openers or {})
        self._opened: dict[str, BatchScorer] = {}
        self._memory: OrderedDict[tuple[str, ...] | Unit, list[Score]] = OrderedDict()
        slow = [reward for reward in self.rewards.values() if isinstance(reward, SlowReward)]
        modules = dict.fromkeys(module for reward in slow for module in reward.preload)
        self._pool = WorkerPool(num_workers, preload=list(modules))

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
        """Return every member's score of every row, worked out by this process alone."""
        batch = Batch(problems, completions, context)
        return self.assemble(self.work(self.units(batch), batch).scores, batch)

    def totals(
        self, problems: Sequence[Problem], completions: Sequence[Completion], context: Context
    ) -> tuple[dict[str, list[Score]], list[float | None]]:
        """Score every row and return the scores of each member and the weighted totals.

        The totals are those that training uses: an abstention counts as the mean of its group.

        Returns:
            For each member its score of every row, and for each row the total; None where no member
            has a score for the row's group.
        """
        scores = self.score(problems, completions, context)
        groups = groups_of(problems)
        columns = {name: impute_group_mean(column, groups) for name, column in scores.items()}
        return scores, weighted_totals(columns, dict(zip(self.names, self.weights, strict=True)))

    def close(self) -> None:
        """End the worker processes."""
        self._pool.close()

    def units(self, batch: Batch) -> list[Unit]:
        """Cut the batch into units, the same way whatever the number of ranks."""
        units: list[Unit] = []
        for name, reward in self.rewards.items():
            mine = [rows for rows in batch.groups if reward.applies(batch.problems[rows[0]])]
            if isinstance(reward, JudgedReward):
                continue  # needs the others' scores: see `assemble`
            if isinstance(reward, GroupReward):
                units += [Unit(name, rows) for rows in mine]
            else:
                units += [Unit(name, (row,)) for rows in mine for row in rows]
        return units

    def work(self, units: Sequence[Unit], batch: Batch) -> Done:
        """Score `units`, any part of what `units()` returned."""
        scores: dict[Unit, list[Score]] = {}
        seconds: dict[str, float] = {}
        for name, reward in self.rewards.items():
            begin = time.perf_counter()
            mine = [unit for unit in units if unit.name == name]
            scores.update(self._work_of_member(reward, mine, batch))
            seconds[name] = time.perf_counter() - begin
        return Done(scores, seconds)

    def assemble(self, done: Mapping[Unit, Sequence[Score]], batch: Batch) -> dict[str, list[Score]]:
        """Put the scores of all units in their rows, and let the members speak that build on them."""
        table: dict[str, list[Score]] = {
            name: [NOT_APPLICABLE] * len(batch.problems) for name in self.rewards
        }
        for unit, scores in done.items():
            for row, score in zip(unit.rows, scores, strict=True):
                table[unit.name][row] = score
        for name, reward in self.rewards.items():
            if isinstance(reward, JudgedReward):
                self._hear_judged(name, reward, table, batch)
        return table

    def _work_of_member(self, reward: Reward, units: list[Unit], batch: Batch) -> dict[Unit, list[Score]]:
        if not units:
            return {}
        if isinstance(reward, BatchReward):
            rows = [row for unit in units for row in unit.rows]
            scores = self._open(reward, units[0].name).score(
                [batch.problems[row] for row in rows], [batch.completions[row] for row in rows], batch.context
            )
            return {unit: [score] for unit, score in zip(units, scores, strict=True)}
        if isinstance(reward, SlowReward | SlowGroupReward):
            return self._work_of_slow(reward, units, batch)
        return {unit: _score_here(reward, unit, batch) for unit in units}

    def _work_of_slow(
        self, reward: SlowReward | SlowGroupReward, units: list[Unit], batch: Batch
    ) -> dict[Unit, list[Score]]:
        scores: dict[Unit, list[Score]] = {}
        jobs: dict[tuple[str, ...] | Unit, Job] = {}
        key_of: dict[Unit, tuple[str, ...] | Unit] = {}
        for unit in units:
            problem = batch.problems[unit.rows[0]]
            completions = tuple(batch.completions[row] for row in unit.rows)
            known = (
                reward.quick(problem, completions[0], batch.context)
                if isinstance(reward, SlowReward)
                else None
            )
            if known is not None:
                scores[unit] = [known]
                continue
            same = reward.same_score_as(problem, completions[0]) if isinstance(reward, SlowReward) else None
            key = unit if same is None else (unit.name, *same)
            key_of[unit] = key
            if key not in self._memory:
                jobs[key] = Job(reward, problem, completions, batch.context)
        new = dict(zip(jobs, self._pool.run(list(jobs.values())), strict=True))
        scores |= {unit: new[key] if key in new else self._memory[key] for unit, key in key_of.items()}
        self._remember({key: score for key, score in new.items() if not isinstance(key, Unit)})
        return scores

    def _remember(self, new: Mapping[tuple[str, ...] | Unit, list[Score]]) -> None:
        """Keep what was worked out; an abstention may come out otherwise next time."""
        self._memory.update({key: list_ for key, list_ in new.items() if not isinstance(list_[0], Abstain)})
        while len(self._memory) > _MOST_REMEMBERED:
            self._memory.popitem(last=False)

    def _hear_judged(
        self, name: str, reward: JudgedReward, table: dict[str, list[Score]], batch: Batch
    ) -> None:
        most = self.rewards[reward.judged_by].span[1]
        for rows in batch.groups:
            if not reward.applies(batch.problems[rows[0]]):
                continue
            verdicts = [table[reward.judged_by][row] for row in rows]
            right = [verdict if isinstance(verdict, Abstain) else verdict >= most for verdict in verdicts]
            completions = [batch.completions[row] for row in rows]
            for row, score in zip(rows, reward.score_judged(completions, right, batch.context), strict=True):
                table[name][row] = score

    def _open(self, reward: BatchReward, name: str) -> BatchScorer:
        if name not in self._opened:
            opener = self._openers.get(reward.kind)
            self._opened[name] = reward.open() if opener is None else opener(reward)
        return self._opened[name]


def _score_here(reward: Reward, unit: Unit, batch: Batch) -> list[Score]:
    problem = batch.problems[unit.rows[0]]
    completions = [batch.completions[row] for row in unit.rows]
    if isinstance(reward, GroupReward):
        return reward.score_group(problem, completions, batch.context)
    return [reward.score(problem, completion, batch.context) for completion in completions]


def _refuse_what_cannot_work(rewards: Mapping[str, Reward]) -> None:
    if not rewards:
        raise ValueError("the committee has no member; choose one, for example rewards=graded")
    judges = [name for name, reward in rewards.items() if reward.judges_correctness]
    for name, reward in rewards.items():
        if isinstance(reward, JudgedReward) and reward.judged_by not in judges:
            raise ValueError(
                f"rewards.{name}.judged_by={reward.judged_by} must name a member that judges correctness, "
                f"here one of {judges or 'none'}; add one with weight 0 if it shall not be paid, "
                "for example '+rewards.right={kind: strict, style: ${prompt.style}, weight: 0}'"
            )
