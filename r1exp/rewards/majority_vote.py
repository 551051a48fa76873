"""Scores whether the answer is the most frequent one of its group. No gold answer is needed.

    score = 1 if the answer is the one that most completions of the group give, else 0

A group that agrees on a wrong answer gets the full score; log a member that judges correctness with
weight 0 to see it. Source: TTRL, section 2.2 (arXiv:2504.16084).
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import PositiveInt

from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context, GroupReward, Score, Span
from r1exp.rewards.votes import answer_of, count_votes


class MajorityVote(GroupReward):
    """1 for the answer of the majority, else 0."""

    kind: Literal["majority_vote"] = "majority_vote"
    style: StyleName  # decides where the answer is read
    min_votes: PositiveInt = 2  # equal answers that are needed for a majority
    # If several answers are the most frequent: `first`, the one given first scores 1; `zero`, all score
    # 0; `mean`, they share the point.
    ties: Literal["first", "zero", "mean"] = "zero"

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def score_group(
        self, problem: Problem, completions: Sequence[Completion], context: Context
    ) -> list[Score]:
        del problem, context
        style = style_named(self.style)
        texts = [style.read_answer(completion.text) for completion in completions]
        answers = [None if text is None else answer_of(text) for text in texts]
        vote = count_votes(answers)
        if vote is None or vote.num_votes < self.min_votes:
            return [0.0] * len(answers)
        tied = len(vote.leaders) > 1
        if tied and self.ties == "zero":
            return [0.0] * len(answers)
        winners = vote.leaders if self.ties == "mean" else vote.leaders[:1]
        return [1.0 / len(winners) if answer in winners else 0.0 for answer in answers]
