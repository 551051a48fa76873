"""A reward for numbers near the gold answer.

    score = max(0, 1 - |answer - gold| / reach)

The answer is what the prompt style marks as the answer; without one, or if it is no number, the score is 0.
"""

from typing import ClassVar

from pydantic import PositiveInt

from r1exp.prompt.answer import parse_number
from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, UNREADABLE_GOLD, Context, Reward, Score, Span


class Near(Reward):
    """Credit that falls linearly with the distance between the answer and the gold answer."""

    style: StyleName  # in which the answer is written
    reach: PositiveInt = 5  # distance from the gold answer at which the credit is 0
    judges_correctness: ClassVar[bool] = True

    @property
    def span(self) -> Span:
        """From no credit to the gold answer's."""
        return (0.0, 1.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        """Return the credit of the completion's answer."""
        if problem.answer is None:
            return NO_GOLD
        gold = parse_number(problem.answer)
        if gold is None:
            return UNREADABLE_GOLD
        given = parse_number(style_named(self.style).read_answer(completion.text) or "")
        return 0.0 if given is None else max(0.0, 1.0 - float(abs(given - gold)) / self.reach)
