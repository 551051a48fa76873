r"""Scores 1 if the answer has the value of the gold answer, however it is written, else 0.

    score = 1 if answer == gold else 0

The judge is that of evaluations, samples and reports; docs/judgement.md lists its rules in order. An answer that cannot be
read, or not be compared in time, is wrong. Where the gold answer cannot be read, the reward abstains.
Source: DeepSeek-R1's accuracy reward (arXiv:2501.12948, section 2.2.2).
"""

from typing import Literal

from pydantic import Field

from r1exp.judgement.judgement import Judgement, Kind
from r1exp.judgement.words import same_text
from r1exp.prompt.settings import StyleName
from r1exp.records import Completion, Problem
from r1exp.rewards.answer_reward import AnswerReward, Place, read_answer
from r1exp.rewards.base import UNREADABLE_GOLD, Score, Seconds, Span


class Accuracy(AnswerReward):
    """1 for an answer with the right value, else 0."""

    kind: Literal["accuracy"] = "accuracy"
    deadline: Seconds = 5.0  # seconds for one comparison by math-verify; then the answer is wrong
    style: StyleName  # the prompt's
    # Where the answer is read: the place that the style gives it, \boxed{}, the last number, the style's place and, if
    # that is absent, the last number, or (`then`) the last number also where the answer in the style's place is wrong.
    read: Place = "style"
    unreadable_gold: Literal["abstain", "text"] = "abstain"  # text: compare texts, ignoring case
    # What gold answers are, where a row has no column answer_kind: as they are written, words, a letter, this exact text.
    answers: Kind = Field(default="auto", exclude_if=lambda value: value == "auto")

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    @property
    def place(self) -> Place:
        return self.read

    @property
    def answer_kind(self) -> Kind:
        return self.answers

    @property
    def seconds(self) -> float:
        return self.deadline

    def points(self, judgement: Judgement, problem: Problem, completion: Completion) -> Score:
        if judgement.verdict != "unreadable gold":
            return float(judgement.is_correct)
        if self.unreadable_gold == "abstain":
            return UNREADABLE_GOLD
        answer = read_answer(self.place, self.style, completion.text)
        return float(answer is not None and same_text(answer) == same_text(problem.answer or ""))
