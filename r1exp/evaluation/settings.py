"""Which held-out problems are asked, how often, and when in a ladder. Torch-free."""

from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from r1exp.settings import Settings


class EvaluationSettings(Settings):
    """One measurement: sampled answers, greedy answers, or both, to the same problems."""

    before: bool  # measure the model before the first training step of a ladder
    after: bool  # measure after every training step of a ladder
    num_problems: PositiveInt | None  # held-out problems, the first ones; null: all
    samples: NonNegativeInt  # sampled completions per problem; 0: greedy only
    temperature: PositiveFloat  # of the sampled completions
    top_p: Annotated[float, Field(gt=0.0, le=1.0)]  # of the sampled completions; 1: every token may come
    greedy: bool  # also answer each problem once with the most likely tokens
    max_tokens: PositiveInt  # tokens of a completion

    @model_validator(mode="after")
    def _something_is_measured(self) -> Self:
        if self.samples == 0 and not self.greedy:
            raise ValueError(
                "samples=0 without greedy answers measures nothing; set evaluation.samples=1 or "
                "evaluation.greedy=true"
            )
        return self
