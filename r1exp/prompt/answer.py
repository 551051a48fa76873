r"""Is what the model answered the same number, or the same text, as the gold answer?

Numbers are exact (`fractions.Fraction`): 0.1 equals 1/10, and 1,080 equals 1080.0. A currency or a
per cent sign is a unit and is dropped, so 50% equals 50, as in GSM8K. Thousands commas must stand
where they belong: `1,2` is a list, no number. Nothing here is slow or raises, whatever the text:
every pattern is linear and every number is bounded in length.
"""

import re
from fractions import Fraction

from r1exp.prompt.style import Style

MAX_NUMBER_LENGTH = 200  # characters; what is longer is no number

_INTEGER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_CURRENCY = r"\\?[$€£¥]"
_WHOLE_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)(?:{_CURRENCY}(?P<sign_inside>[-+]?))?"
    rf"(?P<digits>{_INTEGER}(?:\.[0-9]*)?|\.[0-9]+)"
    rf"(?:[eE](?P<exponent>[-+]?[0-9]{{1,3}}))?(?:/(?P<denominator>{_INTEGER}))?"
    rf"(?:\\?%|{_CURRENCY})?\.?"
)
# A minus counts as a sign only where nothing stands before it to subtract from: `10-8` ends in 8.
_NUMBER_IN_TEXT = re.compile(
    rf"(?P<sign>(?<![A-Za-z0-9_)\]}}])[-+])?(?:{_CURRENCY}(?P<sign_inside>[-+]?))?"
    rf"(?<![A-Za-z0-9_])(?P<digits>{_INTEGER}(?:\.[0-9]+)?|\.[0-9]+)"
    rf"(?P<rest>(?:[eE][-+]?[0-9]{{1,3}}(?![0-9A-Za-z]))?(?:/[0-9]+)?)"
)


def parse_number(text: str) -> Fraction | None:
    """Return the number that the whole of `text` is, exactly; None when it is no number.

    Reads a sign, thousands commas, a currency or per cent sign, a period at the end, decimals, a/b
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
    """Return every number in `text`, as written but without units, in order of appearance."""
    return [
        (match["sign"] or match["sign_inside"] or "").replace("+", "") + match["digits"] + match["rest"]
        for match in _NUMBER_IN_TEXT.finditer(_plain_minus(text))
    ]


def last_number(text: str) -> str | None:
    """Return the last number in `text`, as written but without units; None when there is none."""
    numbers = all_numbers(text)
    return numbers[-1] if numbers else None


def same_number(a: str, b: str) -> bool | None:
    """Return whether `a` and `b` are the same number; None when one of them is no number."""
    first, second = parse_number(a), parse_number(b)
    if first is None or second is None:
        return None
    return first == second


def same_answer(given: str | None, gold: str) -> bool:
    """Return whether the answer `given` is right: the same exact number as `gold`, else the same text.

    Where gold is a number, an answer that holds exactly one number, such as `18 dollars`, counts as
    that number (seed 003: take one number out of the answer and compare).
    """
    if given is None:
        return False
    equal = same_number(given, gold)
    if equal is None and parse_number(gold) is not None:
        numbers = all_numbers(given)
        equal = same_number(numbers[0], gold) if len(numbers) == 1 else False
    return given.strip() == gold.strip() if equal is None else equal


def answer_or_last_number(style: Style, text: str) -> str | None:
    """Return what stands in the style's answer place, else the last number in `text`, else None."""
    answer = style.read_answer(text)
    return last_number(text) if answer is None else answer


def _plain_minus(text: str) -> str:
    return text.replace("\N{MINUS SIGN}", "-")
