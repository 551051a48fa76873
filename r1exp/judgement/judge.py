r"""Decides whether an answer is the gold answer, without any process or library: exact and in microseconds.

The rules in order, each with its name in `Judgement.how`; docs/judgement.md has examples:

    1. no gold answer; no answer; an answer far longer than the gold answer
    2. choice: the gold answer is a letter
    3. the same text, except for formatting
    4. plain numbers
    5. dates, values, units, points, sets, intervals, relations, matrices
    6. several different answers are wrong
    7. one number in a sentence
    8. words

Where these leave the question open, `decided` returns None, and `by_math_verify` asks math-verify. That can take for ever,
so it must be called where its time is bounded (r1exp.rewards.bounded_judge).
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import Final

from r1exp.judgement.choices import read_choices
from r1exp.judgement.formatting import plain
from r1exp.judgement.forms import Row, close, equal
from r1exp.judgement.judgement import Judgement, Kind
from r1exp.judgement.reading import Reading, number_in_words, read
from r1exp.judgement.tokens import TooLarge
from r1exp.judgement.values import Value
from r1exp.judgement.words import SPECIAL_WORDS, same_text, units_agree
from r1exp.prompt.answer import parse_number

_LONGEST_ANSWER: Final = 2000  # characters beyond ten times the gold answer's; longer ones are wrong
_NEARLY: Final = Fraction(1, 10**6)  # decimals with at least six places may be rounded
_LETTER: Final = re.compile(r"[A-D]|\(([A-J])\)|([A-J])\)")
_SPACES: Final = re.compile(r"(?<![A-Za-z0-9])\s+|\s+(?![A-Za-z0-9])|\\[,;!: ]")

NO_GOLD: Final = Judgement("unreadable gold", "no gold answer")
UNREADABLE_GOLD: Final = Judgement("unreadable gold", "neither number, formula nor words")
NO_ANSWER: Final = Judgement("unreadable answer", "no answer")


def decided(answer: str | None, gold: str | None, kind: Kind = "auto") -> Judgement | None:
    """Return the judgement, or None where only math-verify can tell.

    Args:
        answer: The text in the place of the answer; None: there is none.
        gold: The gold answer.
        kind: What the gold answer is.
    """
    if kind == "auto" and answer and gold:
        quick = _common(answer, gold)
        if quick is not None:
            return quick
    if gold is None or not gold.strip():
        return NO_GOLD
    if answer is None or not answer.strip():
        return NO_ANSWER
    if len(answer) > 10 * len(gold) + _LONGEST_ANSWER:
        return Judgement("unreadable answer", "too long", answer[:80])
    if kind == "exact":
        return _verdict(answer.strip() == gold.strip(), "exact text", answer)
    if kind == "auto":
        expected, given = _number(gold), _number(answer)
        if expected is not None and given is not None:
            known = _compared_numbers(given, expected, answer, gold)
            if known is not None:
                return known
    return _decided(answer, gold, kind)


def by_math_verify(answer: str, gold: str) -> Judgement:
    """Return the judgement of math-verify. It may take any time and memory."""
    from r1exp.judgement.math_verify import same_formula

    is_same = same_formula(read(gold).text, read(answer).text)
    if is_same is None:
        return UNREADABLE_GOLD
    return _verdict(is_same, "math-verify", read(answer).text)


def can_read(gold: str | None, kind: Kind = "auto") -> bool | None:
    """Return whether a gold answer can be read; None where only math-verify can tell."""
    known = decided(gold, gold, kind)
    if known is not None and known.verdict == "unreadable gold":
        return False
    return None if gold is None or (kind == "auto" and read(gold).what == "unknown") else True


_COMMON: Final = re.compile(
    r"(?:[Tt]he (?:final )?answer is:? |(?:Final )?[Aa]nswer: ?)?(?P<before>(?:(?:[A-Za-z]{3,12}|[Hh]e|[Ii]t|[Ww]e|[Ss]o|[Ii]n|I|is|a),? ){0,8})"
    r"(?P<opening>\*\*|\$|\\boxed\{|\\text\{|)(?P<digits>-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,30}))(?P<places>\.[0-9]{1,5})?"
    r"(?P<closing>\*\*|\$|\}|)(?P<after>(?: (?:[a-z]{3,12}|in|a)){0,6})\.?"
)
_CLOSING: Final = {"": ("",), "$": ("$", ""), "**": ("**",), "\\boxed{": ("}",), "\\text{": ("}",)}


def _common(answer: str, gold: str) -> Judgement | None:
    """Return the judgement of a number in one of its most common forms; None for all others. For speed alone."""
    match = _COMMON.fullmatch(answer)
    if match is None:
        return None
    expected = _plain_digits(gold)
    if expected is None:
        return None
    before, opening, digits, places, closing, after = match.groups()
    if closing not in _CLOSING[opening] or (opening and closing and after):
        return None
    if (before or after) and _is_special(before, after):
        return None
    if _canonical(digits, places) == expected:
        return Judgement("correct", "equal numbers", digits + (places or ""))
    return Judgement("wrong", "different numbers", digits + (places or ""))


def _is_special(before: str, after: str) -> bool:
    """Return whether the words around a number may make it something else."""
    last = after.split()
    words = [*last, *before.replace(",", "").lower().split()]
    return "is" in last or any(
        word in SPECIAL_WORDS or word.removesuffix("s") in SPECIAL_WORDS for word in words
    )


@lru_cache(maxsize=16384)
def _plain_digits(gold: str) -> str | None:
    """Return a gold answer that is a plain decimal in the form in which equal numbers are equal texts, else None."""
    match = re.fullmatch(r"(-?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,30}))(\.[0-9]{1,5})?", gold.strip())
    return None if match is None else _canonical(match[1], match[2])


def _canonical(digits: str, places: str | None) -> str:
    if "," in digits:
        digits = digits.replace(",", "")
    if digits[0] in "-0":
        sign = "-" if digits[0] == "-" else ""
        digits = sign + (digits.lstrip("-0") or "0")
    if places:
        digits += places.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


@lru_cache(maxsize=16384)
def _number(text: str) -> Fraction | None:
    """Parse a number. Cached, because a group has one gold answer and often equal answers."""
    return parse_number(text)


def _compared_numbers(given: Fraction, expected: Fraction, answer: str, gold: str) -> Judgement | None:
    """Return the judgement of two plain numbers; None where a sign or rounding needs another look."""
    if given == expected:
        return None if _has_sign(answer + gold) else Judgement("correct", "equal numbers", answer)
    if abs(given - expected) <= _NEARLY or _has_sign(answer + gold):
        return None
    return Judgement("wrong", "different numbers", answer)


def _has_sign(text: str) -> bool:
    return "%" in text or "€" in text or "£" in text or "¥" in text


@lru_cache(maxsize=4096)
def choice_of(gold: str) -> str | None:
    """Return the letter of a gold answer that is a choice, else None."""
    inner = plain(gold)
    match = _LETTER.fullmatch(inner)
    if match is not None:
        return match[1] or match[2] or match[0]
    wrapped = re.fullmatch(
        r"\\(?:text|textbf|mathrm|mathbf)\s*\{\s*\(?([A-J])\)?\s*\}", gold.strip().strip("$")
    )
    return wrapped[1] if wrapped is not None else None


@lru_cache(maxsize=16384)
def _decided(answer: str, gold: str, kind: Kind) -> Judgement | None:
    letter = choice_of(gold) if kind in ("auto", "choice") else None
    if letter is not None:
        return _judged_choice(answer, letter)
    if kind == "choice":
        return Judgement("unreadable gold", "no letter")
    expected, given = read(gold), read(answer)
    if kind == "text":
        return _judged_words(given, expected)
    if expected.what in ("nothing", "malformed", "too large"):
        return UNREADABLE_GOLD
    if given.what == "nothing":
        return Judgement("unreadable answer", "only formatting", answer)
    if _bare(given.text) == _bare(expected.text):
        return Judgement("correct", "same text", given.text)
    if expected.what in ("number", "formula", "several"):
        return _judged_formula(answer, given, expected)
    if expected.what == "date":
        is_same = given.what == "date" and _same_date(given, expected)
        return _verdict(is_same, "dates", given.text)
    if expected.what == "text":
        return _judged_words(given, expected)
    return _open_question(given)


def _judged_choice(answer: str, letter: str) -> Judgement:
    chosen = read_choices(answer)
    if not chosen:
        return Judgement("unreadable answer", "no choice", plain(answer)[:80])
    if len(chosen) > 1:
        return Judgement("wrong", "several different answers", ", ".join(chosen))
    return _verdict(chosen[0] == letter, "choice", chosen[0])


def _judged_words(given: Reading, expected: Reading) -> Judgement:
    return _verdict(same_text(given.text) == same_text(expected.text), "words", given.text)


def _judged_formula(answer: str, given: Reading, expected: Reading) -> Judgement | None:
    if given.what == "too large":
        return Judgement("unreadable answer", "too large to compute", given.text)
    if given.what in ("text", "several") and expected.number is not None and given.form is None:
        given = number_in_words(answer)
    if given.what == "denied":
        return Judgement("wrong", "words that change the number", given.text)
    if given.what == "several" and given.form is None:
        return Judgement("wrong", "several different answers", given.text)
    if given.form is None:
        if given.what in ("text", "date"):
            return Judgement("unreadable answer" if given.what == "text" else "wrong", "words", given.text)
        return _open_question(given)
    assert expected.form is not None
    if not units_agree(given.unit, expected.unit):
        return Judgement("wrong", "different units", given.text)
    is_same = _same_values(given, expected)
    if is_same is None:
        return _open_question(given)
    if not is_same and isinstance(given.form, Row) and given.form.opening == "" and not _is_list(expected):
        return _judged_hedge(given, expected)
    if not is_same:
        return Judgement("wrong", "different values", given.text)
    how = "equal formulas" if expected.number is None else "equal numbers"
    return Judgement("correct", how, given.text)


def _judged_hedge(given: Reading, expected: Reading) -> Judgement:
    """Return the judgement of several answers where one is asked for: they must all be right."""
    assert isinstance(given.form, Row)
    parts = [
        Reading("formula", given.text, item, given.unit, False, None, given.places)
        for item in given.form.items
    ]
    if all(_same_values(part, expected) for part in parts):
        return Judgement("correct", "equal formulas", given.text)
    return Judgement("wrong", "several different answers", given.text)


def _is_list(reading: Reading) -> bool:
    return isinstance(reading.form, Row)


def _same_values(given: Reading, expected: Reading) -> bool | None:
    """Return whether two readings have the same value; one of them may be in per cent, or rounded to six places."""
    assert given.form is not None
    assert expected.form is not None
    places = max(given.places, expected.places)

    def near(first: Value, second: Value) -> bool:
        return places >= 6 and close(first, second, float(_NEARLY))

    try:
        found = equal(given.form, expected.form, near)
        if found or given.is_percent == expected.is_percent:
            return found
    except TooLarge:
        return None
    part, whole = (given.number, expected.number) if given.is_percent else (expected.number, given.number)
    return part is not None and whole is not None and part == 100 * whole


def _same_date(given: Reading, expected: Reading) -> bool:
    first, second = given.date, expected.date
    assert first is not None
    assert second is not None
    return first[1:] == second[1:] and (first[0] == second[0] or second[0] is None)


def _open_question(given: Reading) -> Judgement | None:
    """Return None, so that math-verify is asked, unless the answer cannot be a formula."""
    if given.what in ("text", "date", "nothing", "malformed"):
        return Judgement("unreadable answer", "no formula", given.text)
    if given.what == "too large":
        return Judgement("unreadable answer", "too large to compute", given.text)
    return None


def _bare(text: str) -> str:
    return _SPACES.sub("", text)


def _verdict(is_correct: bool, how: str, read_as: str) -> Judgement:
    return Judgement("correct" if is_correct else "wrong", how, read_as)
