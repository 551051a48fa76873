r"""Scores 1 if the answer has the value of the gold answer, however it is written, else 0.

    score = 1 if answer == gold else 0

Compared in this order:
    1. two plain numbers: exact fractions (0.5 is 1/2; 1,080 is 1080.0)
    2. a number against a text without any number: wrong
    3. everything else (LaTeX, sets, intervals, per cent, decimals equal to within 2e-6):
       math-verify, in a worker process

By default the reward abstains if the gold answer consists of words only, or if math-verify cannot read
it. Source: DeepSeek-R1's accuracy reward (arXiv:2501.12948, section 2.2.2).
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import ClassVar, Final, Literal

from r1exp.prompt.answer import answer_or_last_number, last_number, parse_number
from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, UNREADABLE_GOLD, Context, Score, SlowReward, Span

_LONGEST_ANSWER: Final = 2000  # characters beyond ten times the gold answer's; longer ones are wrong
_NEARLY: Final = Fraction(2, 10**6)  # math-verify rounds decimals to six places
_ONLY_WORDS: Final = re.compile(r"[^\W\d_]+(?:[\s'.,-]+[^\W\d_]+)*\.?")
_CURRENCY: Final = re.compile(r"^\\?[$€£¥](?=\s*[-+0-9.])")  # before a number; not a formula's delimiter
_WITH_UNIT: Final = re.compile(r"(?P<number>\S+)\s+(?P<unit>[A-Za-z]{3,}(?: [A-Za-z]{1,20}){0,3})\.?")
_NOT_UNITS: Final = re.compile(
    r"\b(?:sin|cos|tan|cot|sec|csc|log|exp|sqrt|mod|times|plus|minus|over|divided|choose|and"
    r"|percent|dozens?|hundreds?|thousands?|millions?|billions?|trillions?|half|thirds?|quarters?)\b"
)


@lru_cache(maxsize=8192)
def _number(text: str) -> Fraction | None:
    """Parse a number. Cached, because a group has one gold answer and often equal answers."""
    return parse_number(text)


class Accuracy(SlowReward):
    """1 for an answer with the right value, else 0."""

    kind: Literal["accuracy"] = "accuracy"
    style: StyleName  # the prompt's
    # Where the answer is read: the place that the style gives it, \boxed{}, the last number, or the
    # style's place and, if that is absent, the last number.
    read: Literal["style", "boxed", "last_number", "style_or_last_number"] = "style"
    unreadable_gold: Literal["abstain", "text"] = "abstain"  # text: compare texts, ignoring case
    judges_correctness: ClassVar[bool] = True
    memory_limit: ClassVar[int | None] = 4 * 2**30  # bytes; 9^9^9^9 would need more than any machine has
    preload: ClassVar[tuple[str, ...]] = ("r1exp.judgement.math_verify",)

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def quick(self, problem: Problem, completion: Completion, context: Context) -> Score | None:
        del context
        if problem.answer is None:
            return NO_GOLD
        gold = problem.answer.strip()
        gold_number = _number(gold)
        if gold_number is None and (not gold or _ONLY_WORDS.fullmatch(gold)):
            return self._score_of_unreadable_gold(gold, self._answer(completion.text))
        answer = self._answer(completion.text)
        if answer is None or len(answer) > 10 * len(gold) + _LONGEST_ANSWER:
            return 0.0
        return None if gold_number is None else _compared(gold_number, answer, "%" in gold + answer)

    def cache_key(self, problem: Problem, completion: Completion) -> tuple[str, ...] | None:
        return problem.answer or "", self._answer(completion.text) or ""

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        known = self.quick(problem, completion, context)
        if known is not None:
            return known
        from r1exp.judgement.math_verify import same_formula

        answer = self._answer(completion.text)
        assert problem.answer is not None
        assert answer is not None
        same = same_formula(_CURRENCY.sub("", problem.answer), answer)
        return self._score_of_unreadable_gold(problem.answer, answer) if same is None else float(same)

    def _score_of_unreadable_gold(self, gold: str, answer: str | None) -> Score:
        if self.unreadable_gold == "abstain":
            return UNREADABLE_GOLD
        return 0.0 if answer is None else float(answer.strip().casefold() == gold.strip().casefold())

    def _answer(self, text: str) -> str | None:
        if self.read == "last_number":
            return last_number(text)
        if self.read == "style_or_last_number":
            return answer_or_last_number(style_named(self.style), text)
        return style_named("boxed" if self.read == "boxed" else self.style).read_answer(text)


def _compared(gold: Fraction, answer: str, has_percent: bool) -> float | None:
    """Return the score of an answer where gold is a number; None where math-verify is needed."""
    number = _number(answer)
    if number is None:
        with_unit = _WITH_UNIT.fullmatch(answer)
        if with_unit is not None and not _NOT_UNITS.search(with_unit["unit"].lower()):
            number = _number(with_unit["number"])
    if number is None:
        return None if re.search(r"[0-9\\]", answer) else 0.0
    if number == gold:
        return 1.0
    return None if has_percent or abs(number - gold) <= _NEARLY else 0.0
