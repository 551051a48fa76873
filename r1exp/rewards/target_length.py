"""Rewards right completions that are as long as the prompt asks: L1's two rewards.

    exact  1[right] - alpha * |target - n|                              (L1, eq. 1)
    max    1[right] * clip(alpha * (target - n) + delta, 0, 1)          (L1, eq. 2)

n is the number of tokens of the completion and `target` the number that its prompt names, as in "Think for
1024 tokens.". The paper draws a target from 100 to 4,000 for each prompt, with alpha = 0.0003 and delta = 0.5.
Source: L1, Length Controlled Policy Optimization (arXiv:2503.04697).

The score contains the verdict of another member (`judged_by`), which therefore has weight 0 in a committee like the
paper's. A row whose target is not a positive number abstains.
"""

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Abstain, Context, JudgedReward, Score, Span
from r1exp.settings import Name

NO_TARGET: Final = Abstain("no target length")


class TargetLength(JudgedReward):
    """Rewards right completions of the length that the prompt asks for."""

    kind: Literal["target_length"] = "target_length"
    form: Literal["exact", "max"] = "exact"  # exact: the target itself; max: at most the target
    column: Name | None = None  # column of the data with each row's target in tokens
    target: PositiveInt | None = None  # tokens; one target for all rows, instead of a column
    alpha: PositiveFloat = 0.0003  # points per token of difference
    delta: Annotated[float, Field(ge=0.0, le=1.0)] = (
        0.5  # max: points of a right completion that meets its target
    )
    max_length: PositiveInt  # tokens; where sampling ends. Greater differences count as this one

    @model_validator(mode="after")
    def _has_one_source_of_targets(self) -> Self:
        if (self.column is None) == (self.target is None):
            raise ValueError(
                "give the column that holds each row's target length (column=target_length), or one target in tokens "
                "for all rows (target=1024), one of the two"
            )
        return self

    @property
    def span(self) -> Span:
        return (0.0 if self.form == "max" else -self.alpha * self.max_length, 1.0)

    def score_judged(
        self, completions: Sequence[Completion], right: Sequence[bool | Abstain], context: Context
    ) -> list[Score]:
        """Score the completions of a problem without columns."""
        return self.score_problem(Problem("", ""), completions, right, context)

    def score_problem(
        self,
        problem: Problem,
        completions: Sequence[Completion],
        right: Sequence[bool | Abstain],
        context: Context,
    ) -> list[Score]:
        """Return one score for each completion; the target is that of the problem's row."""
        del context
        target = self.target if self.column is None else problem.columns.get(self.column)
        if not isinstance(target, int | float) or isinstance(target, bool) or not target > 0:
            return [NO_TARGET] * len(completions)
        return [
            verdict
            if isinstance(verdict, Abstain)
            else self._score(float(verdict), float(target) - completion.num_tokens)
            for completion, verdict in zip(completions, right, strict=True)
        ]

    def _score(self, right: float, tokens_left: float) -> float:
        if self.form == "exact":
            return right - self.alpha * min(abs(tokens_left), self.max_length)
        return right * min(max(self.alpha * tokens_left + self.delta, 0.0), 1.0)
