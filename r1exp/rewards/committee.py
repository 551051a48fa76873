"""Scores the rows of one batch with all members of the committee.

A batch is two parallel lists, problems and completions, in which the completions of one prompt are
neighbors. Every member scores the rows that it applies to: one by one, a group in one call, or all at
once, as its base class says. The work is split into independent units, so that ranks can share it
(`r1exp.rewards.ranks`) and still get the same numbers.
"""

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import groupby
from typing import IO, Any, cast

from r1exp.records import Completion, Problem
from r1exp.rewards.advice import check_members
from r1exp.rewards.base import (
    NOT_APPLICABLE,
    Abstain,
    BatchReward,
    BatchScorer,
    Context,
    GroupReward,
    GroupScorer,
    JudgedReward,
    Reward,
    Score,
    SlowGroupReward,
    SlowReward,
)
from r1exp.rewards.faults import scores_from
from r1exp.rewards.random_state import kept_random_state
from r1exp.rewards.total import impute_group_mean, weighted_totals
from r1exp.rewards.worker_process import Job
from r1exp.rewards.workers import WorkerPool

Openers = Mapping[str, Callable[[Any], BatchScorer]]  # kind: opens a scorer whose code is in a later room

_MAX_CACHED_SCORES = 100_000  # of slow members; about 0.5 KB each, because texts are kept as their hash


@dataclass(frozen=True, slots=True)
class Batch:
    """The completions to score, the problems that they answer, and how far the training is."""

    problems: Sequence[Problem]
    completions: Sequence[Completion]
    context: Context
    groups: list[tuple[int, ...]] = field(init=False)  # rows of each group

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", groups_of(self.problems))


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows of the batch that one member must score in one call."""

    name: str  # the member
    rows: tuple[int, ...]  # positions in the batch


@dataclass(frozen=True, slots=True)
class UnitScores:
    """The scores of some units."""

    scores: dict[Unit, list[Score]]
    seconds: dict[str, float]  # member: the time it took


def groups_of(problems: Sequence[Problem]) -> list[tuple[int, ...]]:
    """Return the positions of each group: neighboring rows with the same problem."""
    runs = groupby(range(len(problems)), key=lambda row: (problems[row].id, problems[row].prompt))
    return [tuple(rows) for _, rows in runs]


class Committee:
    """Named rewards that score together. The names are the keys of the `rewards` mapping.

    Args:
        rewards: The members.
        openers: For kinds whose scorer is in a later room (`reward_model`), how to open it.
        num_workers: Processes for slow members; None: as many as there are cores.
        isolated: Members that are scored in worker processes although they are not slow.
        output: File that the output of the worker processes is written to; None: that of this process.

    Raises:
        ValueError: there is no member, or a `judged_by` names no member that judges correctness.
    """

    def __init__(
        self,
        rewards: Mapping[str, Reward],
        openers: Openers | None = None,
        num_workers: int | None = None,
        isolated: Collection[str] = (),
        output: IO[bytes] | None = None,
    ) -> None:
        check_members(rewards)
        self.rewards = dict(rewards)
        self._isolated = frozenset(isolated)
        self._openers = dict(openers or {})
        self._opened: dict[str, BatchScorer] = {}
        self._cache: OrderedDict[tuple[str, ...] | Unit, list[Score]] = OrderedDict()
        slow = [reward for reward in self.rewards.values() if isinstance(reward, SlowReward)]
        modules = dict.fromkeys(module for reward in slow for module in reward.preload)
        self._pool = WorkerPool(num_workers, preload=list(modules), output=output)

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
        """Return every member's score of every row, computed by this process alone."""
        batch = Batch(problems, completions, context)
        return self.assemble(self.score_units(self.units(batch), batch).scores, batch)

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
        """Terminate the worker processes."""
        self._pool.close()
        for scorer in self._opened.values():
            close = getattr(scorer, "close", None)  # most scorers have nothing to close
            if close is not None:
                close()

    def units(self, batch: Batch) -> list[Unit]:
        """Split the batch into units, the same way for any number of ranks."""
        units: list[Unit] = []
        for name, reward in self.rewards.items():
            groups = [rows for rows in batch.groups if reward.applies(batch.problems[rows[0]])]
            if isinstance(reward, JudgedReward):
                continue  # needs the scores of another member: see `add_judged_scores`
            if isinstance(reward, GroupReward):
                units += [Unit(name, rows) for rows in groups]
            else:
                units += [Unit(name, (row,)) for rows in groups for row in rows]
        return units

    def score_units(self, units: Sequence[Unit], batch: Batch) -> UnitScores:
        """Score `units`, any part of what `units()` returned."""
        scores: dict[Unit, list[Score]] = {}
        seconds: dict[str, float] = {}
        for name, reward in self.rewards.items():
            begin = time.perf_counter()
            units_of_member = [unit for unit in units if unit.name == name]
            with kept_random_state():
                scores.update(self._score_units_of_member(reward, units_of_member, batch))
            seconds[name] = time.perf_counter() - begin
        return UnitScores(scores, seconds)

    def assemble(self, unit_scores: Mapping[Unit, Sequence[Score]], batch: Batch) -> dict[str, list[Score]]:
        """Return the table of all scores: put those of the units in their rows and add the judged members."""
        table = self.placed(unit_scores, batch)
        for name, reward in self.rewards.items():
            if isinstance(reward, JudgedReward):
                self.add_judged_scores(name, table, batch)
        return table

    def placed(self, unit_scores: Mapping[Unit, Sequence[Score]], batch: Batch) -> dict[str, list[Score]]:
        """Return the table of the scores of the units, each in its row; judged members are not applicable."""
        table: dict[str, list[Score]] = {
            name: [NOT_APPLICABLE] * len(batch.problems) for name in self.rewards
        }
        for unit, scores in unit_scores.items():
            for row, score in zip(unit.rows, scores, strict=True):
                table[unit.name][row] = score
        return table

    def add_judged_scores(self, name: str, table: dict[str, list[Score]], batch: Batch) -> None:
        """Score a member that depends on the scores of another one, which `table` contains."""
        reward = self.rewards[name]
        assert isinstance(reward, JudgedReward)
        highest = self.rewards[reward.judged_by].span[1]
        for rows in batch.groups:
            if not reward.applies(batch.problems[rows[0]]):
                continue
            verdicts = [table[reward.judged_by][row] for row in rows]
            right = [verdict if isinstance(verdict, Abstain) else verdict >= highest for verdict in verdicts]
            completions = [batch.completions[row] for row in rows]
            with kept_random_state():
                judged = reward.score_problem(batch.problems[rows[0]], completions, right, batch.context)
            scores = _checked(name, judged, len(rows))
            for row, score in zip(rows, scores, strict=True):
                table[name][row] = score

    def _score_units_of_member(
        self, reward: Reward, units: list[Unit], batch: Batch
    ) -> dict[Unit, list[Score]]:
        if not units:
            return {}
        if isinstance(reward, BatchReward):
            return self._score_at_once(reward, units, batch)
        if isinstance(reward, SlowReward | SlowGroupReward) or units[0].name in self._isolated:
            return self._score_in_workers(reward, units, batch)
        return {unit: _score_here(reward, unit, batch) for unit in units}

    def _score_at_once(self, reward: BatchReward, units: list[Unit], batch: Batch) -> dict[Unit, list[Score]]:
        name = units[0].name
        scorer = self._scorer_of(reward, name)
        groups = [
            (batch.problems[unit.rows[0]], [batch.completions[row] for row in unit.rows]) for unit in units
        ]
        if isinstance(reward, GroupReward):
            found = cast(GroupScorer, scorer).score_groups(groups, batch.context)
            return {
                unit: _checked(name, scores, len(unit.rows))
                for unit, scores in zip(units, found, strict=True)
            }
        problems, rows = [problem for problem, _ in groups], [rows[0] for _, rows in groups]
        checked = _checked(name, scorer.score(problems, rows, batch.context), len(units))
        return {unit: [score] for unit, score in zip(units, checked, strict=True)}

    def _score_in_workers(self, reward: Reward, units: list[Unit], batch: Batch) -> dict[Unit, list[Score]]:
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
            own_key = reward.cache_key(problem, completions[0]) if isinstance(reward, SlowReward) else None
            key = unit if own_key is None else (unit.name, _digest(own_key))
            key_of[unit] = key
            if key not in self._cache:
                jobs[key] = Job(reward, problem, completions, batch.context)
        new = dict(zip(jobs, self._pool.run(list(jobs.values())), strict=True))
        scores |= {unit: new[key] if key in new else self._cache[key] for unit, key in key_of.items()}
        self._add_to_cache({key: score for key, score in new.items() if not isinstance(key, Unit)})
        return scores

    def _add_to_cache(self, new: Mapping[tuple[str, ...] | Unit, list[Score]]) -> None:
        """Keep new scores, but no abstention: the next attempt may succeed."""
        self._cache.update({key: scores for key, scores in new.items() if not isinstance(scores[0], Abstain)})
        while len(self._cache) > _MAX_CACHED_SCORES:
            self._cache.popitem(last=False)

    def _scorer_of(self, reward: BatchReward, name: str) -> BatchScorer:
        if name not in self._opened:
            opener = self._openers.get(reward.kind)
            self._opened[name] = reward.open() if opener is None else opener(reward)
        return self._opened[name]


def _digest(parts: tuple[str, ...]) -> str:
    """Return a hash in place of texts that may be long."""
    text = json.dumps(parts).encode()
    return blake2b(text, digest_size=16).hexdigest()


def _score_here(reward: Reward, unit: Unit, batch: Batch) -> list[Score]:
    problem = batch.problems[unit.rows[0]]
    completions = [batch.completions[row] for row in unit.rows]
    if isinstance(reward, GroupReward):
        scores = reward.score_group(problem, completions, batch.context)
    else:
        scores = [reward.score(problem, completion, batch.context) for completion in completions]
    return _checked(unit.name, scores, len(completions))


def _checked(name: str, scores: Sequence[Score], num_completions: int) -> list[Score]:
    """Return the scores of a member; raise ValueError where they are no numbers, or too few or too many."""
    try:
        return scores_from(scores, num_completions)
    except ValueError as error:
        raise ValueError(f"rewards.{name} {error}") from None
