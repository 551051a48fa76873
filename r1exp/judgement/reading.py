r"""Reads a text as what it is: a number, a formula, a date, words, several answers, or nothing that can be read.

The first rule that fits counts:
    1. formatting and lead-ins are taken off
    2. a plain number: `1,080`, `$5`, `50%`, `1/2`
    3. a date
    4. a number or formula with a unit, a scale or a per cent sign
    5. a formula
    6. parts joined by `or`, `and`, `或`: several answers
    7. words: with one marked formula (`$...$`), or with one number
    8. words alone
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal

from r1exp.judgement.formatting import plain
from r1exp.judgement.forms import Form, Row
from r1exp.judgement.formulas import parsed
from r1exp.judgement.tokens import NAMES, TooLarge, is_word
from r1exp.judgement.values import Value, number
from r1exp.judgement.words import Date, date_of, measured, says_otherwise
from r1exp.prompt.answer import all_numbers, parse_number

What = Literal["number", "formula", "date", "text", "several", "unknown", "too large", "nothing"]
_HAS_PERCENT: Final = re.compile(r"%|percent|百分")
_SIGN_OF_CURRENCY: Final = re.compile(r"[$€£¥]")
_MARKED: Final = re.compile(
    r"\$\$(?=\S)([^$]+?)(?<=\S)\$\$|\$(?=\S)([^$]+?)(?<=\S)\$(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]|\\boxed\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}",
    re.DOTALL,
)
_JOINED: Final = re.compile(
    r"\s*(?:,?\s+(?:or|and)\b\s*|或者?|和|以及|;|\n+|,\s+(?:or\s+|and\s+)?|\\text\s*\{\s*(?:or|and|,)\s*\}|\s\\?/\s)\s*",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"(?<![A-Za-z\\{])[A-Za-z]{2,}|[\u4e00-\u9fff]")
_NOT_WORDS: Final = frozenset(["dx", "dy", "dt", "mod", "lim", "max", "min", "gcd", "lcm", "det", *NAMES])
_TIME: Final = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?\s*(?:[ap]\.?\s?m\.?)?", re.IGNORECASE)
_RELATION_FIRST: Final = re.compile(r"(?:[<>≤≥≠]|\\(?:leq?|geq?|neq?|lt|gt)(?![A-Za-z]))\s*=?")
_NUMBERS_ONLY: Final = re.compile(r"[-+]?[\d.]+(?:\s+[-+]?[\d.]+)+")
_PLACES: Final = re.compile(r"\.(\d+)")
_MOST_PARTS: Final = 60


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text says."""

    what: What
    text: str  # without formatting
    form: Form | None = None
    unit: frozenset[str] = frozenset()
    is_percent: bool = False
    date: Date | None = None
    places: int = 0  # most decimal places of a number in it

    @property
    def number(self) -> Fraction | None:
        """The number that it is, or None."""
        return self.form.number if isinstance(self.form, Value) else None


@lru_cache(maxsize=16384)
def read(text: str) -> Reading:
    """Return what `text` says. Never raises; linear in the text's length."""
    inner = plain(text)
    if not inner:
        return Reading("nothing", inner)
    places = max((len(match) for match in _PLACES.findall(inner)), default=0)
    try:
        return _read_plain(inner, places) or _read_parts(inner, places) or _read_words(inner, places)
    except TooLarge:
        return Reading("too large", inner)


def _read_plain(inner: str, places: int) -> Reading | None:
    """Return the reading of a text that is one number, date or formula."""
    plain_number = parse_number(inner)
    if plain_number is not None:
        signs = frozenset(_SIGN_OF_CURRENCY.findall(inner))
        return Reading("number", inner, number(plain_number), signs, "%" in inner, None, places)
    date = date_of(inner)
    if date is not None:
        return Reading("date", inner, date=date)
    if _TIME.fullmatch(inner):
        return Reading("text", inner)
    if _RELATION_FIRST.match(inner):
        inner = f"x{inner}"
    parts = measured(inner)
    value = parse_number(parts.core)
    form = parsed(parts.core) if value is None else number(value)
    if form is None:
        return None
    if parts.scale != 1:
        if not isinstance(form, Value) or form.number is None:
            return None
        form = number(form.number * parts.scale)
    is_number = isinstance(form, Value) and form.number is not None
    return Reading(
        "number" if is_number else "formula", inner, form, parts.unit, parts.is_percent, None, places
    )


def _read_parts(inner: str, places: int) -> Reading | None:
    """Return the reading of several answers with words between them; None where it is not that."""
    parts = [part for part in _JOINED.split(inner) if part]
    if not 1 < len(parts) <= _MOST_PARTS:
        return None
    readings = [_read_plain(plain(part), places) for part in parts]
    if any(reading is None or reading.form is None for reading in readings):
        return None
    forms = tuple(reading.form for reading in readings if reading is not None and reading.form is not None)
    units = frozenset().union(*(reading.unit for reading in readings if reading is not None))
    return Reading("several", inner, Row("", forms, ""), units, places=places)


def _read_words(inner: str, places: int) -> Reading:
    """Return the reading of a text with words: the only formula or number in it, or the words themselves."""
    marked = list(_MARKED.finditer(inner))
    if marked:
        found = [plain(next(filter(None, match.groups()))) for match in marked]
        before, after = _MARKED.sub(" ", inner[: marked[-1].start()]), inner[marked[-1].end() :]
        readings = [_read_plain(text, places) for text in dict.fromkeys(found)]
        first = readings[0]
        if len(readings) > 1:
            forms = tuple(each.form for each in readings if each is not None and each.form is not None)
            return Reading("several", inner, Row("", forms, "") if len(forms) == len(readings) else None)
        if first is not None and not says_otherwise(before, after):
            return Reading(
                first.what, first.text, first.form, first.unit, first.is_percent, first.date, places
            )
        return Reading("text", inner)
    numbers = all_numbers(inner)
    if _NUMBERS_ONLY.fullmatch(inner):
        values = [parse_number(each) for each in inner.split()]
        forms = tuple(number(value) for value in values if value is not None)
        return Reading(
            "several", inner, Row("", forms, "") if len(forms) == len(values) else None, places=places
        )
    if not _has_words(inner):
        return Reading("unknown", inner, places=places)
    if not numbers:
        return Reading(
            "unknown" if "\\" in inner and not re.search(r"\\(?:text|mathrm|mbox)", inner) else "text", inner
        )
    return Reading("text", inner, places=places)


def _has_words(inner: str) -> bool:
    return any(
        word not in _NOT_WORDS and (not word.isascii() or is_word(word)) for word in _WORD.findall(inner)
    )


@lru_cache(maxsize=16384)
def number_in_words(text: str) -> Reading:
    """Return the one number that a text with words says, for a gold answer that is a number.

    `She pays $18 in total` is 18; `not 18`, `half of 18`, `Room 18 or 19` and `July 18` are no number.
    """
    inner = plain(text)
    equation = inner.rpartition("=")[2].strip() if "=" in inner and "\\" not in inner else ""
    if equation:
        after = _read_plain(plain(equation), 0)
        left = parsed_or_none(plain(inner.rpartition("=")[0].rpartition("=")[2]))
        is_false = (
            isinstance(left, Value)
            and left.number is not None
            and after is not None
            and left.number != after.number
        )
        if (
            after is not None
            and after.number is not None
            and not is_false
            and not says_otherwise(inner.rpartition("=")[0], "")
        ):
            return after
    numbers = all_numbers(inner)
    values = {parse_number(each) for each in numbers}
    if len(values) > 1:
        return Reading("several", inner)
    if len(numbers) == 0 or None in values:
        return Reading("text", inner)
    position = inner.find(numbers[0].lstrip("-"))
    before, after_text = inner[:position], inner[position:]
    from_number = _read_plain(after_text.rstrip(" ."), 0)
    tail = after_text[len(numbers[0].lstrip("-")) :]
    if (
        says_otherwise(before, tail)
        or re.match(r"\s*[/^*_]|[A-Za-z]", tail)
        or re.search(r"[/^*_\\]\s*\{?$", before)
    ):
        return Reading("text", inner)
    if from_number is not None and from_number.number is not None:
        sign = -1 if numbers[0].startswith("-") else 1
        return Reading(
            "number", inner, number(sign * from_number.number), from_number.unit, from_number.is_percent
        )
    scaled = measured(re.match(r"\S+(?:\s+\S+)?", after_text)[0].rstrip(".,;")) if after_text else None  # type: ignore[index]
    value = parse_number(numbers[0])
    assert value is not None
    if scaled is not None and scaled.scale != 1:
        value *= scaled.scale
    return Reading("number", inner, number(value), frozenset(), bool(_HAS_PERCENT.match(tail.lstrip(" \\"))))


def parsed_or_none(text: str) -> Form | None:
    """Return the formula that a text is; None also where it is too large."""
    try:
        return parsed(text)
    except TooLarge:
        return None
