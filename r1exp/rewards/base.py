"""What is a reward? Frozen settings with one pure method that scores.

Three outcomes are kept apart: a wrong answer scores the reward's minimum, a right one up to its
maximum, and what *could not be scored* is an `Abstain` with its reason, never a number.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Protocol

from pydantic import Field

from r1exp.records import Completion, Problem
from r1exp.settings import Settings

Span = tuple[float, float]  # the lowest and the highest score a reward can give
Weight = Annotated[float, Field(ge=0.0)]  # 0: logged, not paid
Seconds = Annotated[float, Field(gt=0.0)]


@dataclass(frozen=True, slots=True)
class Abstain:
    """The reward could not score, for this reason."""

    reason: str


Score = float | Abstain

NOT_APPLICABLE: Final = Abstain("not applicable")  # by design: it counts against no bound
NO_GOLD: Final = Abstain("no gold answer")
UNREADABLE_GOLD: Final = Abstain("gold unreadable")
TIMEOUT: Final = Abstain("timeout")
NO_LOGPROBS: Final = Abstain("no log-probabilities")


@dataclass(frozen=True, slots=True)
class Context:
    """Where the training stands when a completion is scored."""

    step: int = 0  # optimizer steps done
    num_steps: int = 0  # optimizer steps planned; 0: unknown


@dataclass(frozen=True, slots=True)
class TokenizedCompletion(Completion):
    """A completion that still knows its tokens, for functions that ask for them."""

    token_ids: tuple[int, ...] = ()


class Reward(Settings, ABC):
    """One member of the committee: scores a completion by itself.

    `weight` multiplies the score in the sum that is paid. A penalty has a negative span, not a
    negative weight.
    """

    kind: str  # the name it is chosen by
    weight: Weight = 1.0  # factor in the weighted sum; 0: logged only
    applies_to: dict[str, str | int | bool] | None = None  # column: value; None: every row

    judges_correctness: ClassVar[bool] = False  # true: the gold answer must score the maximum

    @property
    @abstractmethod
    def span(self) -> Span:
        """The lowest and the highest score."""

    @abstractmethod
    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        """Return a number inside the span, or why there is none."""

    def applies(self, problem: Problem) -> bool:
        """Say whether `problem` has every column value that `applies_to` asks for."""
        if self.applies_to is None:
            return True
        return all(problem.columns.get(column) == value for column, value in self.applies_to.items())

    def needs_logprobs(self) -> bool:
        """Say whether it scores only completions with log-probabilities."""
        return False

    def other_models(self) -> dict[str, str]:
        """Return the models that it reads: the name of the field, and the hub id or folder in it."""
        return {}

    def constant_because(self) -> str | None:
        """Say why it is the same for every completion of a group, as these settings are; None: it is not.

        Such a member adds nothing to GRPO's advantage.
        """
        return None

    def gold_answer(self, problem: Problem) -> str | None:
        """Return what a right completion has in its answer's place, for `r1exp check`; None: unknown."""
        return problem.answer

    def cheats(self, problem: Problem) -> dict[str, str]:
        """Return what stands in the answer's place of completions that try to trick this member, by name."""
        del problem
        return {}


class GroupReward(Reward):
    """A member that compares the completions of one prompt with each other."""

    @abstractmethod
    def score_group(
        self, problem: Problem, completions: Sequence[Completion], context: Context
    ) -> list[Score]:
        """Return one score a completion, in order. All completions answer `problem`."""

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        """Score a completion as a group of one."""
        return self.score_group(problem, [completion], context)[0]


class SlowReward(Reward):
    """A member whose `score` may take seconds or never return: it runs in a worker process.

    `quick` is tried first, in the trainer's own process, and answers what is cheap to answer.
    """

    deadline: Seconds = 5.0  # seconds for one completion; then the worker is killed
    memory_limit: ClassVar[int | None] = None  # bytes of address space of the worker
    preload: ClassVar[tuple[str, ...]] = ()  # modules with a `warm_up()`, in every worker from the start

    def quick(self, problem: Problem, completion: Completion, context: Context) -> Score | None:
        """Return the score where it is cheap to know; None sends the completion to a worker."""
        del problem, completion, context
        return None

    def same_score_as(self, problem: Problem, completion: Completion) -> tuple[str, ...] | None:
        """Return all that decides the score, so that equal ones are worked out once; None: never equal."""
        del problem, completion
        return None


class SlowGroupReward(GroupReward):
    """The same for a member that scores a whole group in one call."""

    deadline: Seconds = 5.0  # seconds a completion of the group; then the worker is killed

    def prepare(self) -> None:
        """Import and load what `score_group` needs; called in the worker, outside the deadline."""
        return


class BatchScorer(Protocol):
    """Something opened once that scores many completions at once: a service, a model, a sandbox."""

    def score(
        self, problems: Sequence[Problem], completions: Sequence[Completion], context: Context
    ) -> list[Score]:
        """Return one score a completion, in order. Bounds its own time and never raises for one row."""
        ...


class BatchReward(Reward):
    """A member that scores many rows at once, in the trainer's process, and bounds its own time."""

    @abstractmethod
    def open(self) -> BatchScorer:
        """Return the scorer; the committee opens it once and keeps it."""

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        """Score one completion with a scorer of its own."""
        return self.open().score([problem], [completion], context)[0]


class JudgedReward(GroupReward):
    """A member that builds on another member's verdict whether a completion is right.

    The committee asks the member named `judged_by` first. Right means that it gave its maximum.
    """

    judged_by: str  # name of a member that judges correctness; its weight may be 0

    @abstractmethod
    def score_judged(
        self, completions: Sequence[Completion], right: Sequence[bool | Abstain], context: Context
    ) -> list[Score]:
        """Return one score a completion of the group, given the verdict on each."""

    def score_group(
        self, problem: Problem, completions: Sequence[Completion], context: Context
    ) -> list[Score]:
        """Abstain: without the committee there is no verdict."""
        del problem, context
        return [Abstain(f"no verdict from {self.judged_by}")] * len(completions)
