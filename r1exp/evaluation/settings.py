"""Settings of evaluation: problems, number of samples, and when in a pipeline. Torch-free."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from r1exp.settings import Settings

# Who judges the answers. `reward`: the member of the run's rewards that judges correctness; accuracy, where that is
# accuracy, graded, strict or a vote, or where there are no rewards. `accuracy`: the same value, however it is written.
# `strict`: the exact text. `accuracy_then_last_number`: where the answer in its place is not right, the last number of the
# completion is judged too ([sft-grpo]).
JudgeName = Literal["reward", "accuracy", "strict", "accuracy_then_last_number"]


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

    @model_validator(mode="after")
    def _something_is_measured(self) -> Self:
        if self.samples == 0 and not self.greedy:
            raise ValueError(
                "samples=0 with greedy=false evaluates nothing; set evaluation.samples=1 or "
                "evaluation.greedy=true"
            )
        return self
