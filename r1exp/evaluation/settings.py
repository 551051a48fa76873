"""Settings of evaluation: problems, number of samples, and when in a pipeline. Torch-free."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from r1exp.settings import Settings

# Who judges the answers. `reward`: the member of the run's rewards that judges correctness; accuracy, where that is
# accuracy, graded, strict or a vote, or where there are no rewards. `accuracy`: the same value, however it is written.
# `strict`: the exact text. `accuracy_then_last_number`: where the answer in its place is not right, the last number of the
# completion is judged too ([sft-grpo]).
JudgeName = Literal["reward", "accuracy", "strict", "accuracy_then_last_number"]


NUM_VALIDATION = 200  # problems; the 95 % interval of an accuracy is then at most 7 points to either side


class EvaluationSettings(Settings):
    """One evaluation: sampled answers, greedy answers, or both, to the same problems."""

    before: bool  # evaluate the model before the first training step of a pipeline
    after: bool  # evaluate after every training step of a pipeline
    num_problems: PositiveInt | None  # the first held-out problems; null: all
    samples: NonNegativeInt  # sampled completions per problem; 0: greedy only
    temperature: PositiveFloat  # of the sampled completions
    top_p: Annotated[float, Field(gt=0.0, le=1.0)]  # of the sampled completions; 1: sample from all tokens
    greedy: bool  # also answer each problem once with the most likely tokens
    max_tokens: PositiveInt  # tokens of a completion
    judge: JudgeName = "reward"  # who judges the answers
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

    def evaluated_at(self, num_steps: int) -> list[int]:
        """Return the optimizer steps at which a training of `num_steps` is evaluated: 0, every N-th, and the last."""
        return [] if self.every is None else sorted({*range(0, num_steps, self.every), num_steps})

    @model_validator(mode="after")
    def _something_is_measured(self) -> Self:
        if self.samples == 0 and not self.greedy:
            raise ValueError(
                "samples=0 with greedy=false evaluates nothing; set evaluation.samples=1 or "
                "evaluation.greedy=true"
            )
        return self
