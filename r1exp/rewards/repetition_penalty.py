"""Penalizes repeated phrases.

    score = max_penalty * (1 - number of different n-grams / number of n-grams)

N-grams are over words, or over characters in scripts without spaces (Chinese, Japanese, Thai); a text
may contain both. A text shorter than n words gets no penalty. Takes time linear in the length of the text.
Source: Demystifying Long Chain-of-Thought, appendix C.2 (arXiv:2502.03373), as open-r1 computes it.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Literal

from pydantic import Field

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context, Reward, Score, Span
from r1exp.rewards.scripts import words


class RepetitionPenalty(Reward):
    """A penalty in proportion to the share of repeated n-grams."""

    kind: Literal["repetition_penalty"] = "repetition_penalty"
    n: Annotated[int, Field(ge=1)] = 3  # words of a phrase
    max_penalty: Annotated[float, Field(lt=0.0)] = -1.0  # points; the limit for a text that only repeats

    @property
    def span(self) -> Span:
        return (self.max_penalty, 0.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del problem, context
        tokens = words(completion.text)
        num_phrases = len(tokens) - self.n + 1
        if num_phrases < 1:
            return 0.0
        different = num_different_phrases(tokens, self.n)
        return self.max_penalty * (1.0 - different / num_phrases) if different < num_phrases else 0.0


def num_different_phrases(tokens: Sequence[str], n: int) -> int:
    """Return the number of different runs of `n` tokens.

    A phrase is encoded as a number whose digits are its words, in the base of the vocabulary size: a
    million numbers take a quarter of the memory of a million tuples.
    """
    number_of: dict[str, int] = {}
    digits = [number_of.setdefault(token, len(number_of)) for token in tokens]
    phrases = digits[: len(digits) - n + 1]
    for start in range(1, n):
        phrases = [
            phrase * len(number_of) + digit
            for phrase, digit in zip(phrases, islice(digits, start, None), strict=False)
        ]
    return len(set(phrases))
