"""Does the completion agree with its group? No gold answer is needed.

    score = 1 if the answer is the one that most completions of the group give, else 0

Source: TTRL, section 2.2 (arXiv:2504.16084). A group that agrees on a wrong answer is paid for it;
watch a member that judges correctness beside it, with weight 0.
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
    """Pays agreement."""

    kind: Literal["majority_vote"] = "majority_vote"
    style: StyleName  # where the answer is read
    min_votes: PositiveInt = 2  # equal answers before they count as a majority
    # A tied vote: the answer cast first wins, nobody wins, or the tied answers share the point.
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
