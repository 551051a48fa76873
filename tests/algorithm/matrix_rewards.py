"""A reward of the matrix that is scored in the process of its rank; a function would start worker processes for every cell."""

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context, Reward, Span


class Letters(Reward):
    """The share of letters in a completion, which varies even for an untrained model."""

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> float:
        return sum(map(str.isalpha, completion.text)) / max(len(completion.text), 1)
