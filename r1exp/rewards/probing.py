"""Scores the completions of a check with each member by itself, so that a member that fails spoils no other.

A member that raises an error, returns no numbers, ends its process or exceeds its deadline is recorded and not called
again: the check of a function that hangs takes a few deadlines, not one for each completion.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1exp.errors import R1ExpError
from r1exp.records import Completion, Problem
from r1exp.rewards.base import (
    TIMEOUT,
    Abstain,
    BatchReward,
    BatchScorer,
    Context,
    JudgedReward,
    Reward,
    Score,
)
from r1exp.rewards.committee import Batch, Committee, Openers, Unit
from r1exp.rewards.faults import fault_of
from r1exp.rewards.workers import NOT_READY

_CHARACTERS_PER_TOKEN = 4  # roughly, to give every text a length in tokens
_LOGPROBS = (-0.5,)  # natural logarithms, the same for all: every vote has the same weight
NOT_CALLED = Abstain("not called after its first failure")
NOT_CHECKED = Abstain("not checked")
Scores = dict[str, Score]  # member: its score of one completion


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a member is not called again."""

    text: str  # what it did, and where
    is_late: bool  # it exceeded its deadline


class Prober:
    """Scores one completion after the other and records the members that fail."""

    def __init__(self, committee: Committee) -> None:
        self._committee = committee
        self.failures: dict[str, Failure] = {}  # member: its first failure

    def score(
        self, problem: Problem, texts: Sequence[str], what: str, only: Collection[str] | None = None
    ) -> Scores:
        """Return every member's score of the first text.

        Args:
            problem: The problem that all texts answer.
            texts: The completions of one group.
            what: The first text in words, for messages.
            only: The members to call; None: all.
        """
        completions = [
            Completion(text, max(1, len(text) // _CHARACTERS_PER_TOKEN), logprobs=_LOGPROBS) for text in texts
        ]
        batch = Batch([problem] * len(texts), completions, Context())
        units = self._committee.units(batch)
        scores: dict[Unit, list[Score]] = {}
        for name in self._committee.names if only is None else only:
            scores |= self._scores_of(name, [unit for unit in units if unit.name == name], batch)
        table = self._committee.placed(scores, batch)
        for name, reward in self._committee.rewards.items():
            if isinstance(reward, JudgedReward) and only is None:
                self._add_judged(name, table, batch)
        for name, column in table.items():
            worst = next((score for score in column if isinstance(score, Abstain) and score.detail), None)
            if worst is not None:
                self.failures[name] = Failure(f"{worst.detail}, on {what}", worst in (TIMEOUT, NOT_READY))
        return {name: column[0] for name, column in table.items()}

    def warm_up(self, problem: Problem, texts: Sequence[str], what: str, once: Collection[str]) -> None:
        """Call every member, so that imports and connections are not timed.

        One that is late, perhaps on a busy machine, is called a second time, except those in `once`: the first call of a
        user's function is late in every new worker of a training too.
        """
        self.score(problem, texts, what)
        late = [name for name, failure in self.failures.items() if failure.is_late and name not in once]
        for name in late:
            del self.failures[name]
        if late:
            self.score(problem, texts, what, late)

    def _scores_of(self, name: str, units: Sequence[Unit], batch: Batch) -> dict[Unit, list[Score]]:
        if name not in self.failures:
            try:
                return self._committee.score_units(units, batch).scores
            except R1ExpError:
                raise
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the code of a user's class
                failed: Score = _abstention(error)
        else:
            failed = NOT_CALLED
        return {unit: [failed] * len(unit.rows) for unit in units}

    def _add_judged(self, name: str, table: dict[str, list[Score]], batch: Batch) -> None:
        failed: Score = NOT_CALLED
        if name not in self.failures:
            try:
                self._committee.add_judged_scores(name, table, batch)
                return
            except R1ExpError:
                raise
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the code of a user's class
                failed = _abstention(error)
        table[name] = [failed] * len(batch.problems)


def _abstention(error: BaseException) -> Abstain:
    return Abstain(f"error: {type(error).__name__}", fault_of(error))


class NotOpened:
    """Abstains in place of a scorer that cannot be opened here."""

    def score(
        self, problems: Sequence[Problem], completions: Sequence[Completion], context: Context
    ) -> list[Score]:
        """Return `NOT_CHECKED` for every completion."""
        del completions, context
        return [NOT_CHECKED] * len(problems)

    def score_groups(
        self, groups: Sequence[tuple[Problem, Sequence[Completion]]], context: Context
    ) -> list[list[Score]]:
        """Return `NOT_CHECKED` for every completion."""
        del context
        return [[NOT_CHECKED] * len(completions) for _, completions in groups]


def openers_of(
    rewards: Mapping[str, Reward], given: Openers, not_checked: list[str]
) -> dict[str, Callable[[Any], BatchScorer]]:
    """Return openers that add what cannot be opened to `not_checked`, instead of raising."""

    def open_or_abstain(reward: BatchReward) -> BatchScorer:
        try:
            return given[reward.kind](reward) if reward.kind in given else reward.open()
        except R1ExpError as error:
            name = next(name for name, member in rewards.items() if member is reward)
            not_checked.append(f"rewards.{name} was not checked: {error}")
            return NotOpened()

    return {reward.kind: open_or_abstain for reward in rewards.values() if isinstance(reward, BatchReward)}


def users_own(rewards: Mapping[str, Reward]) -> list[str]:
    """Return the users' own members that a check scores in worker processes, so that it ends whatever they do."""
    return [
        name
        for name, reward in rewards.items()
        if ":" in reward.kind and not isinstance(reward, BatchReward | JudgedReward)
    ]
