"""Is the answer, as written, the gold answer? All or nothing.

    score = points if answer == gold else 0

The answer is what stands in the prompt style's answer place, else the last number of the text
(seed 002, `correctness_reward_func`; seed 003's order of reading).
"""

from typing import ClassVar, Literal

from pydantic import PositiveFloat

from r1exp.prompt.answer import answer_or_last_number
from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, Context, Reward, Score, Span


class Strict(Reward):
    """Seed 002's first reward: exact text or nothing."""

    kind: Literal["strict"] = "strict"
    style: StyleName  # where the answer is read
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
        return self.points if answer == problem.answer.strip() else 0.0
