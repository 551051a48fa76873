r"""Reads numbers from text and compares an answer with the gold answer, as numbers or as text.

Numbers are exact (`fractions.Fraction`): 0.1 equals 1/10, and 1,080 equals 1080.0. A currency or
percent sign is a unit and is dropped, so 50% equals 50, as in GSM8K. Thousands separators must be at
the right positions: `1,2` is a list and not a number. The functions never raise, and they run in linear
time for any text: every pattern is linear, and every number is limited in length.
"""

import re
from fractions import Fraction

from r1exp.prompt.style import Style

MAX_NUMBER_LENGTH = 200  # characters; longer text is not read as a number

_INTEGER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_CURRENCY = r"\\?[$€£¥]"
_WHOLE_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)(?:{_CURRENCY}(?P<sign_inside>[-+]?))?"
    rf"(?P<digits>{_INTEGER}(?:\.[0-9]*)?|\.[0-9]+)"
    rf"(?:[eE](?P<exponent>[-+]?[0-9]{{1,3}}))?(?:/(?P<denominator>{_INTEGER}))?"
    rf"(?:\\?%|{_CURRENCY})?\.?"
)
# A minus is a sign only if no operand precedes it: the last number of `10-8` is 8.
_NUMBER_IN_TEXT = re.compile(
    rf"(?P<sign>(?<![A-Za-z0-9_)\]}}])[-+])?(?:{_CURRENCY}(?P<sign_inside>[-+]?))?"
    rf"(?<![A-Za-z0-9_])(?P<digits>{_INTEGER}(?:\.[0-9]+)?|\.[0-9]+)"
    rf"(?P<rest>(?:[eE][-+]?[0-9]{{1,3}}(?![0-9A-Za-z]))?(?:/[0-9]+)?)"
)


def parse_number(text: str) -> Fraction | None:
    """Return the exact number that the whole of `text` represents, or None if it is not a number.

    Accepts a sign, thousands separators, a currency or percent sign, a period at the end, decimals, a/b
    and exponents of up to three digits.
    """
    text = _plain_minus(text.strip())
    if len(text) > MAX_NUMBER_LENGTH:
        return None
    match = _WHOLE_NUMBER.fullmatch(re.sub(r"\s*/\s*", "/", text))
    if match is None or (match["sign"] and match["sign_inside"]):
        return None
    sign = match["sign"] or match["sign_inside"] or ""
    digits = match["digits"].replace(",", "").rstrip(".")
    denominator = int((match["denominator"] or "1").replace(",", ""))
    if denominator == 0:
        return None
    size = Fraction(f"{digits}e{match['exponent'] or 0}") / denominator
    return -size if sign == "-" else size


def all_numbers(text: str) -> list[str]:
    """Return all numbers in `text` in order, as written but without units."""
    return [
        (match["sign"] or match["sign_inside"] or "").replace("+", "") + match["digits"] + match["rest"]
        for match in _NUMBER_IN_TEXT.finditer(_plain_minus(text))
    ]


def last_number(text: str) -> str | None:
    """Return the last number in `text`, as written but without units, or None if there is none."""
    numbers = all_numbers(text)
    return numbers[-1] if numbers else None


def same_number(a: str, b: str) -> bool | None:
    """Return whether `a` and `b` are the same number, or None if one of them is not a number."""
    first, second = parse_number(a), parse_number(b)
    if first is None or second is None:
        return None
    return first == second


def same_answer(given: str | None, gold: str) -> bool:
    """Return whether the answer `given` is correct: exactly the same number as `gold`, else the same text.

    If gold is a number, an answer that contains exactly one number, such as `18 dollars`, is read as that
    number ([sft-grpo]: extract one number from the answer and compare).
    """
    if given is None:
        return False
    equal = same_number(given, gold)
    if equal is None and parse_number(gold) is not None:
        numbers = all_numbers(given)
        equal = same_number(numbers[0], gold) if len(numbers) == 1 else False
    return given.strip() == gold.strip() if equal is None else equal


def answer_or_last_number(style: Style, text: str) -> str | None:
    """Return the answer in the style's format, else the last number in `text`, else None."""
    answer = style.read_answer(text)
    return last_number(text) if answer is None else answer


def _plain_minus(text: str) -> str:
    return text.replace("\N{MINUS SIGN}", "-")
