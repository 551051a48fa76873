"""Scores the exact text of the gold answer highest, and the same number written another way lower.

    score = exact if answer == gold as text, equal if they are the same number, else 0

Source: [sft-grpo], the two-step correctness reward (2.0 for the text, 1.5 for `7` against `7.0`).
"""

from typing import ClassVar, Literal, Self

from pydantic import PositiveFloat, model_validator

from r1exp.prompt.answer import answer_or_last_number, same_number
from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, Context, Reward, Score, Span


class Graded(Reward):
    """The first reward of [sft-grpo]: `exact` for the exact text, `equal` for the same number, else 0."""

    kind: Literal["graded"] = "graded"
    style: StyleName  # decides where the answer is read
    exact: PositiveFloat = 2.0  # points for the exact text
    equal: PositiveFloat = 1.5  # points for the same number written another way
    judges_correctness: ClassVar[bool] = True

    @model_validator(mode="after")
    def _exact_is_at_least_equal(self) -> Self:
        if self.equal > self.exact:
            raise ValueError(
                f"equal={self.equal} must not exceed exact={self.exact} (points), "
                "or another way of writing scores more than the gold text itself; lower `equal`"
            )
        return self

    @property
    def span(self) -> Span:
        return (0.0, self.exact)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del context
        if problem.answer is None:
            return NO_GOLD
        answer = answer_or_last_number(style_named(self.style), completion.text)
        if answer is None:
            return 0.0
        if answer == problem.answer.strip():
            return self.exact
        return self.equal if same_number(answer, problem.answer) else 0.0
