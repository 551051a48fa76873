"""Reads the answers of completions and counts them as votes.

Answers with the same value are the same vote, by the rules of the judge (docs/judgement.md): `42`, `42.0`, `$42`, `**42**`.
Confidence weights a vote with the length-normalized probability of the completion that gives it:

    weight = exp(mean log-probability of its tokens)

Source: self-consistency, section 2, normalized weighted sum (arXiv:2203.11171).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from r1exp.judgement.keys import key_of
from r1exp.prompt.style import Style
from r1exp.records import Completion

Answer = Fraction | str


def answer_of(text: str) -> Answer:
    """Return the number that `text` is, else a text that answers with the same value share."""
    return key_of(text)


def all_answers(style: Style, text: str) -> list[Answer]:
    """Return all answers in `text`, in order."""
    return [answer_of(answer) for answer in style.read_answers(text)]


def confidence_of(completion: Completion) -> float | None:
    """Return the length-normalized probability of a completion; None without log-probabilities."""
    if not completion.logprobs:
        return None
    return math.exp(math.fsum(completion.logprobs) / len(completion.logprobs))


@dataclass(frozen=True, slots=True)
class Vote:
    """The answers with the largest weight, in the order they were given, and the votes of the first one."""

    leaders: tuple[Answer, ...]
    num_votes: int


def count_votes(answers: Sequence[Answer | None], weights: Sequence[float] | None = None) -> Vote | None:
    """Return the vote of `answers`, or None if all are None.

    Args:
        answers: One for each voter; None: it does not vote.
        weights: Of the answers; None: all have weight 1.
    """
    weight_of: dict[Answer, float] = {}
    count_of: dict[Answer, int] = {}
    for position, answer in enumerate(answers):
        if answer is None:
            continue
        weight = 1.0 if weights is None else weights[position]
        weight_of[answer] = weight_of.get(answer, 0.0) + weight
        count_of[answer] = count_of.get(answer, 0) + 1
    if not weight_of:
        return None
    most = max(weight_of.values())
    leaders = tuple(answer for answer, weight in weight_of.items() if weight == most)
    return Vote(leaders, count_of[leaders[0]])
