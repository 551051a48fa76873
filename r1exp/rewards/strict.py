"""Scores an answer whose text equals that of the gold answer.

    score = points if answer == gold else 0

The answer is the text in the place that the prompt style gives it, else the last number of the
completion ([gemma-grpo], `correctness_reward_func`; [sft-grpo] for the order of reading).
"""

from typing import ClassVar, Literal

from pydantic import PositiveFloat

from r1exp.judgement.judge import decided
from r1exp.prompt.answer import answer_or_last_number
from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, Context, Reward, Score, Span


class Strict(Reward):
    """The first reward of [gemma-grpo]: `points` for the exact text, else 0."""

    kind: Literal["strict"] = "strict"
    style: StyleName  # decides where the answer is read
    points: PositiveFloat = 2.0  # for the exact text
    judges_correctness: ClassVar[bool] = True

    @property
    def span(self) -> Span:
        return (0.0, self.points)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del context
        if problem.answer is None:
            return NO_GOLD
        answer = answer_or_last_number(style_named(self.style), completion.text)
        judgement = decided(answer, problem.answer, "exact")
        return self.points if judgement is not None and judgement.is_correct else 0.0
