"""Settings of evaluation: suites of problems, numbers of samples, and when in a pipeline. Torch-free.

A suite is one set of held-out problems with the way in which they are answered and judged. Without `suites` there is one,
`test`: the test split of the run's data set. What a suite does not set, it takes from `evaluation`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from r1exp.dataset.base import Dataset
from r1exp.dataset.menu import DatasetSettings
from r1exp.prompt.settings import PromptSettings
from r1exp.settings import Name, Settings

# Who judges the answers. `reward`: the member of the run's rewards that judges correctness; accuracy, where that is
# accuracy, graded, strict or a vote, or where there are no rewards. `accuracy`: the same value, however it is written.
# `strict`: the exact text. `accuracy_then_last_number`: where the answer in its place is not right, the last number of the
# completion is judged too ([sft-grpo]).
JudgeName = Literal["reward", "accuracy", "strict", "accuracy_then_last_number"]
HarnessName = Literal["lighteval", "lm_eval"]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
SuiteName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$")]
OWN = "test"  # name of the suite of the run's own data set
_SHARED = ("num_problems", "samples", "temperature", "top_p", "greedy", "max_tokens", "judge")


def _listed(tasks: Any) -> Any:
    return [tasks] if isinstance(tasks, str) else tasks


class SuiteSettings(Settings):
    """One suite. `dataset` must be stated, so that a misspelt name of a suite adds none; null elsewhere: as in `evaluation`."""

    dataset: DatasetSettings | None  # NAME of an option of dataset, or its settings; null: the run's own
    prompt: PromptSettings | None = None  # NAME of an option of prompt, or its settings; null: the run's own
    num_problems: PositiveInt | None = None  # the first problems of its test split; null: as in evaluation
    samples: NonNegativeInt | None = None  # sampled completions per problem; 0: greedy only
    temperature: PositiveFloat | None = None  # of the sampled completions
    top_p: Share | None = None  # of the sampled completions; 1: sample from all tokens
    greedy: bool | None = None  # also answer each problem once with the most likely tokens
    max_tokens: PositiveInt | None = None  # tokens of a completion
    judge: JudgeName | None = None  # who judges the answers


@dataclass(frozen=True)
class Suite:
    """One suite with every value resolved."""

    name: str
    dataset: Dataset
    prompt: PromptSettings
    num_problems: int | None  # the first problems of the test split; None: all
    samples: int  # sampled completions per problem
    temperature: float
    top_p: float
    greedy: bool
    max_tokens: int
    judge: JudgeName

    @property
    def completions_per_problem(self) -> int:
        """Sampled and greedy completions of a problem."""
        return self.samples + int(self.greedy)

    def deciding_settings(self) -> dict[str, Any]:
        """Return what decides its answers and judgements, but for its problems, whose content counts."""
        shared = {name: getattr(self, name) for name in _SHARED}
        return {"name": self.name, "prompt": self.prompt.model_dump(mode="json"), **shared}


DURING_TRAINING = (
    "every",
    "num_validation",
    "keep_best",
)  # settings that an evaluation of its own does not read
VALIDATION = "validation"  # name of the suite of problems that a model is evaluated on while it trains
NUM_VALIDATION = 200  # problems; the 95 % interval of an accuracy is then at most 7 points to either side


class EvaluationSettings(Settings):
    """Evaluations: sampled answers, greedy answers, or both, to the problems of one or several suites."""

    before: bool  # evaluate the model before the first training step of a pipeline
    after: bool  # evaluate after every training step of a pipeline
    num_problems: PositiveInt | None  # the first held-out problems of each suite; null: all
    samples: NonNegativeInt  # sampled completions per problem; 0: greedy only
    temperature: PositiveFloat  # of the sampled completions
    top_p: Share  # of the sampled completions; 1: sample from all tokens
    greedy: bool  # also answer each problem once with the most likely tokens
    max_tokens: PositiveInt  # tokens of a completion
    judge: JudgeName = "reward"  # who judges the answers
    # Score sampled answers with the run's committee as well, for best@k: the best of k answers by their reward.
    best_of: Annotated[bool, Field(exclude_if=lambda best_of: not best_of)] = False
    # Also run tasks of lighteval or lm_eval, in an environment of its own; without suites, nothing else; docs/evaluation.md.
    harness: Annotated[HarnessName | None, Field(exclude_if=lambda harness: harness is None)] = None
    # Names of its tasks, as the harness writes them; num_problems limits the problems of each.
    tasks: Annotated[list[Name], BeforeValidator(_listed), Field(exclude_if=lambda tasks: not tasks)] = Field(
        default_factory=list
    )
    # Tasks of your own. lm_eval: a folder of task files; lighteval: a Python file with TASKS_TABLE; null: none.
    tasks_path: Annotated[Name | None, Field(exclude_if=lambda path: path is None)] = None
    # Python of the environment in which the harness is installed; null: the one that r1exp makes.
    harness_python: Annotated[Name | None, Field(exclude_if=lambda path: path is None)] = None
    # Name -> suite. Empty: `test` alone, the test split of the run's data set.
    suites: Annotated[dict[SuiteName, SuiteSettings], Field(exclude_if=lambda suites: not suites)] = Field(
        default_factory=dict
    )
    # Optimizer steps between evaluations of a model that is trained; null: none.
    every: PositiveInt | None = Field(default=None, exclude_if=lambda every: every is None)
    # Problems of the training split kept for them; null: NUM_VALIDATION with `every`, else none.
    num_validation: NonNegativeInt | None = Field(default=None, exclude_if=lambda number: number is None)
    # The decoding whose accuracy decides which of the evaluated models becomes the artifact; null: the last one.
    keep_best: Literal["sampled", "greedy"] | None = Field(
        default=None, exclude_if=lambda which: which is None
    )

    @model_validator(mode="after")
    def _training_can_be_evaluated(self) -> Self:
        if self.every is not None and self.num_validation == 0:
            raise ValueError(
                "every evaluates on problems that are not trained on, and num_validation=0 keeps none; set "
                f"evaluation.num_validation={NUM_VALIDATION}, or leave it out"
            )
        if self.every is not None and self.samples == 0 and not self.greedy:
            raise ValueError(
                "every evaluates nothing with samples=0 and greedy=false; set evaluation.greedy=true"
            )
        if self.keep_best is None:
            return self
        if self.every is None:
            raise ValueError(
                f"keep_best={self.keep_best} needs evaluations during training; set evaluation.every=20, for example"
            )
        if (self.keep_best == "greedy" and not self.greedy) or (
            self.keep_best == "sampled" and not self.samples
        ):
            raise ValueError(
                f"keep_best={self.keep_best} needs that accuracy; set evaluation.{self.keep_best.replace('sampled', 'samples')}"
                f"={'true' if self.keep_best == 'greedy' else '1'}"
            )
        return self

    @property
    def num_held_out(self) -> int:
        """Problems of the training split that are kept for evaluations during training."""
        if self.num_validation is not None:
            return self.num_validation
        return 0 if self.every is None else NUM_VALIDATION

    def validation(self, dataset: Dataset, prompt: PromptSettings) -> Suite:
        """Return how the validation problems are answered: as `evaluation` says, without what a suite sets for itself."""
        shared = {field: getattr(self, field) for field in _SHARED}
        return Suite(name=VALIDATION, dataset=dataset, prompt=prompt, **shared | {"num_problems": None})

    def evaluated_at(self, num_steps: int) -> list[int]:
        """Return the optimizer steps at which a training of `num_steps` is evaluated: 0, every N-th, and the last."""
        return [] if self.every is None else sorted({*range(0, num_steps, self.every), num_steps})

    @model_validator(mode="after")
    def _something_is_measured(self) -> Self:
        if self.samples == 0 and not self.greedy and not self.suites:
            raise ValueError(
                "samples=0 with greedy=false evaluates nothing; set evaluation.samples=1 or "
                "evaluation.greedy=true"
            )
        for name, suite in self.suites.items():
            if self._of(suite, "samples") == 0 and not self._of(suite, "greedy"):
                raise ValueError(
                    f"suites.{name}: samples=0 with greedy=false evaluates nothing; set "
                    f"evaluation.suites.{name}.samples=1 or evaluation.suites.{name}.greedy=true"
                )
        return self

    @model_validator(mode="after")
    def _a_harness_has_tasks(self) -> Self:
        if self.harness is not None and not self.tasks:
            raise ValueError(
                f"harness={self.harness} has no tasks; name some, for example evaluation.tasks=[gsm8k]"
            )
        if self.harness is None and (self.tasks or self.tasks_path or self.harness_python):
            raise ValueError(
                "tasks, tasks_path and harness_python are read by a harness; add evaluation.harness=lm_eval or "
                "evaluation.harness=lighteval"
            )
        return self

    @model_validator(mode="after")
    def _the_best_has_others(self) -> Self:
        suites = self.suites.values()
        if self.best_of and max([self.samples, *(suite.samples or 0 for suite in suites)]) < 2:
            raise ValueError(
                "best_of=true takes the best of several sampled answers, and there is one at most; set "
                "evaluation.samples=4, for example"
            )
        return self

    def resolved(self, dataset: Dataset, prompt: PromptSettings) -> tuple[Suite, ...]:
        """Return the suites in their order, with what they take from the run; none where only a harness evaluates.

        Args:
            dataset: The run's own.
            prompt: The run's own.
        """
        own = {} if self.harness is not None else {OWN: SuiteSettings(dataset=None)}
        chosen: Mapping[str, SuiteSettings] = self.suites or own
        return tuple(
            Suite(
                name=name,
                dataset=suite.dataset or dataset,
                prompt=suite.prompt or prompt,
                **{field: self._of(suite, field) for field in _SHARED},
            )
            for name, suite in chosen.items()
        )

    def pinned(self) -> Self:
        """Return the same suites with commits instead of branches, where a hub knows the data set."""
        if not self.suites:
            return self
        suites = {
            name: suite
            if suite.dataset is None
            else suite.model_copy(update={"dataset": suite.dataset.pinned()})
            for name, suite in self.suites.items()
        }
        return self.model_copy(update={"suites": suites})

    def name_of(self, suite: str, field: str) -> str:
        """Return the dotted key that sets a field of a suite."""
        own = self.suites.get(suite)
        is_own = own is not None and getattr(own, field) is not None
        return f"evaluation.suites.{suite}.{field}" if is_own else f"evaluation.{field}"

    def _of(self, suite: SuiteSettings, field: str) -> Any:
        own = getattr(suite, field)
        return getattr(self, field) if own is None else own
