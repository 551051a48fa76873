"""Scores the exact text of the gold answer highest, and the same value written another way lower.

    score = exact if answer == gold as text, equal if they have the same value, else 0

The judge is that of `accuracy` and of evaluations (docs/judgement.md). Source: [sft-grpo], the two-step correctness
reward (2.0 for the text, 1.5 for `7` against `7.0`).
"""

from typing import Literal, Self

from pydantic import PositiveFloat, model_validator

from r1exp.judgement.judgement import Judgement
from r1exp.prompt.settings import StyleName
from r1exp.records import Completion, Problem
from r1exp.rewards.answer_reward import AnswerReward, read_answer
from r1exp.rewards.base import UNREADABLE_GOLD, Score, Span


class Graded(AnswerReward):
    """The first reward of [sft-grpo]: `exact` for the exact text, `equal` for the same value, else 0."""

    kind: Literal["graded"] = "graded"
    style: StyleName  # decides where the answer is read
    exact: PositiveFloat = 2.0  # points for the exact text
    equal: PositiveFloat = 1.5  # points for the same value written another way

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

    def points(self, judgement: Judgement, problem: Problem, completion: Completion) -> Score:
        answer = read_answer(self.place, self.style, completion.text)
        if answer is not None and answer == (problem.answer or "").strip():
            return self.exact
        if judgement.verdict == "unreadable gold":
            return UNREADABLE_GOLD
        return self.equal if judgement.is_correct else 0.0
