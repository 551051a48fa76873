"""Base classes of rewards: frozen settings with one pure method that scores.

A wrong answer scores the minimum of the reward and a right one up to the maximum. A completion that could
not be scored gets `Abstain` with the reason, never a number.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, Protocol

from pydantic import Field

from r1exp.records import Completion, Problem
from r1exp.settings import Settings

Span = tuple[float, float]  # the lowest and the highest score a reward can give
Weight = Annotated[float, Field(ge=0.0)]  # 0: logged, not added to the total
Seconds = Annotated[float, Field(gt=0.0)]


@dataclass(frozen=True, slots=True)
class Abstain:
    """Takes the place of a score where the reward could not score the completion."""

    reason: str  # counted, and part of a metric's name: the same for all completions with the same cause
    detail: str = field(default="", compare=False)  # what is wrong with the reward's code; "": nothing


Score = float | Abstain

NOT_APPLICABLE: Final = Abstain("not applicable")  # excluded by `applies_to`; no bound counts it
NO_GOLD: Final = Abstain("no gold answer")
UNREADABLE_GOLD: Final = Abstain("gold unreadable")
TIMEOUT: Final = Abstain("timeout")
NO_LOGPROBS: Final = Abstain("no log-probabilities")


@dataclass(frozen=True, slots=True)
class Context:
    """How far the training is when a completion is scored."""

    step: int = 0  # optimizer steps done
    num_steps: int = 0  # optimizer steps planned; 0: unknown


@dataclass(frozen=True, slots=True)
class TokenizedCompletion(Completion):
    """A completion with its token ids, for reward functions that take `completion_ids`."""

    token_ids: tuple[int, ...] = ()


class Reward(Settings, ABC):
    """One member of the committee; scores each completion by itself.

    `weight` multiplies the score in the weighted total. A penalty has a negative span, not a negative
    weight.
    """

    kind: str  # the name it is chosen by, or package.module:Class
    weight: Weight = 1.0  # factor in the weighted total; 0: logged only
    applies_to: dict[str, str | int | bool] | None = None  # column: value; None: every row

    judges_correctness: ClassVar[bool] = False  # True: the gold answer must score the maximum
    # False: rows without a gold answer can be judged too, by what their columns demand
    needs_gold: ClassVar[bool] = True
    is_local: ClassVar[bool] = True  # False: it needs a service, a model or a sandbox

    @property
    @abstractmethod
    def span(self) -> Span:
        """The lowest and the highest score."""

    @abstractmethod
    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        """Return a number inside the span, or the reason why there is none."""

    def applies(self, problem: Problem) -> bool:
        """Return whether `problem` has every column value of `applies_to`."""
        if self.applies_to is None:
            return True
        return all(problem.columns.get(column) == value for column, value in self.applies_to.items())

    def needs_logprobs(self) -> bool:
        """Return whether it can score only completions with log-probabilities."""
        return False

    def other_models(self) -> dict[str, str]:
        """Return the models that it reads: the name of the field, and the hub id or folder in it."""
        return {}

    def models_on_device(self) -> dict[str, int]:
        """Return the models that it keeps on each rank's device: hub id or folder -> bytes of one weight."""
        return {}

    def constant_because(self) -> str | None:
        """Return why these settings give every completion of a group the same score, or None.

        Such a member adds nothing to GRPO's advantage.
        """
        return None

    def cannot_run_because(self, problems: Sequence[Problem] = ()) -> str | None:
        """Return what this machine lacks to score `problems`, and how to change that; None: nothing."""
        del problems
        return None

    def needs_beyond_one_text(self) -> str | None:
        """Return what this reward reads besides the text of one completion and its problem, or None.

        Other frameworks call a reward function with one text at a time (`r1exp export`).
        """
        return "log-probabilities" if self.needs_logprobs() else None

    def gold_answer(self, problem: Problem) -> str | None:
        """Return the answer of a correct completion, for `r1exp check`; None: unknown."""
        return problem.answer

    def evaluates(self) -> bool:
        """Return whether held-out answers are judged by this member; if not, by the judge of `accuracy`."""
        return self.judges_correctness

    def unreadable_golds(self, problems: Sequence[Problem]) -> list[Problem]:
        """Return the problems whose gold answer it cannot read, for `r1exp check`; by default none is looked at."""
        del problems
        return []

    def cheats(self, problem: Problem) -> dict[str, str]:
        """Return answers that try to get a score without solving the problem, by name, for `r1exp check`."""
        del problem
        return {}


class GroupReward(Reward):
    """A reward that compares the completions of one prompt with each other."""

    def needs_beyond_one_text(self) -> str | None:
        """Return that it needs the other completions of the prompt."""
        return "the other completions of the prompt"

    @abstractmethod
    def score_group(
        self, problem: Problem, completions: Sequence[Completion], context: Context
    ) -> list[Score]:
        """Return one score for each completion, in order. All completions answer `problem`."""

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        """Score a completion as a group of one."""
        return self.score_group(problem, [completion], context)[0]


class SlowReward(Reward):
    """A reward whose `score` may take seconds or never return; it runs in a worker process.

    `quick` is called first, in the trainer's own process, and returns the scores that are cheap to compute.
    """

    deadline: Seconds = 5.0  # seconds for one completion; then the worker is killed
    memory_limit: ClassVar[int | None] = None  # bytes of address space of the worker
    preload: ClassVar[tuple[str, ...]] = ()  # modules with a `warm_up()`, imported in every worker

    def quick(self, problem: Problem, completion: Completion, context: Context) -> Score | None:
        """Return the score where it is cheap to compute; None: the completion goes to a worker."""
        del problem, completion, context
        return None

    def cache_key(self, problem: Problem, completion: Completion) -> tuple[str, ...] | None:
        """Return everything that decides the score: equal keys are scored once. None: never cached."""
        del problem, completion
        return None


class SlowGroupReward(GroupReward):
    """A group reward whose `score_group` may take seconds or never return; it runs in a worker process."""

    deadline: Seconds = 5.0  # seconds for each completion of the group; then the worker is killed

    def prepare(self) -> None:
        """Import and load what `score_group` needs; called in the worker, outside the deadline."""
        return


class BatchScorer(Protocol):
    """Scores many completions at once, for example by a service, a model or a sandbox."""

    def score(
        self, problems: Sequence[Problem], completions: Sequence[Completion], context: Context
    ) -> list[Score]:
        """Return one score for each completion, in order. Bounds its own time; never raises for one row."""
        ...


class GroupScorer(BatchScorer, Protocol):
    """Scores many groups at once: the scorer of a reward that is a `BatchReward` and a `GroupReward`."""

    def score_groups(
        self, groups: Sequence[tuple[Problem, Sequence[Completion]]], context: Context
    ) -> list[list[Score]]:
        """Return one score for each completion of each group. Bounds its own time; never raises for one group."""
        ...


class BatchReward(Reward):
    """A reward that scores many rows at once, in the trainer's process, and bounds its own time."""

    is_local: ClassVar[bool] = False

    @abstractmethod
    def open(self) -> BatchScorer:
        """Return the scorer; the committee opens it once and keeps it."""

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        """Score one completion with a scorer opened for this call."""
        return self.open().score([problem], [completion], context)[0]


class JudgedReward(GroupReward):
    """A reward that depends on whether another member finds a completion right.

    The committee scores the member named `judged_by` first. A completion is right if that member gave
    its maximum.
    """

    judged_by: str  # name of a member that judges correctness; its weight may be 0

    @abstractmethod
    def score_judged(
        self, completions: Sequence[Completion], right: Sequence[bool | Abstain], context: Context
    ) -> list[Score]:
        """Return one score for each completion of the group.

        Args:
            completions: The group.
            right: For each completion, whether it is right, or why that is not known.
            context: How far the training is.
        """

    def score_problem(
        self,
        problem: Problem,
        completions: Sequence[Completion],
        right: Sequence[bool | Abstain],
        context: Context,
    ) -> list[Score]:
        """Return one score for each completion of `problem`; what the committee calls.

        To be overridden by rewards that read columns of the problem.
        """
        del problem
        return self.score_judged(completions, right, context)

    def score_group(
        self, problem: Problem, completions: Sequence[Completion], context: Context
    ) -> list[Score]:
        """Abstain: without the committee it is not known which completions are right."""
        del problem, context
        return [Abstain(f"no verdict from {self.judged_by}")] * len(completions)
