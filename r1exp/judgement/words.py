r"""Reads what words around a number say: units, scales, per cent, negations, comparisons; and dates.

`18 dollars per day` is 18 with a unit, `42 million` is 42,000,000, `half of 42`, `not 42` and `less than 42` are not 42.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from r1exp.judgement.tokens import is_word

_SCALES: Final = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12,
    "百": 10**2, "千": 10**3, "万": 10**4, "百万": 10**6, "千万": 10**7, "亿": 10**8,
}  # fmt: skip
_SCALE: Final = re.compile(
    rf"\s*(?P<scale>{'|'.join(sorted(_SCALES, key=len, reverse=True))})s?(?![A-Za-z])", re.IGNORECASE
)
_PERCENT: Final = re.compile(r"\s*(?:\\?%|\\percent|(?:percent|per cent|个百分点)\b)\s*$", re.IGNORECASE)
_CHINESE_PERCENT: Final = re.compile(r"^百分之(?=[\d.]+$)")
_CURRENCY: Final = re.compile(
    r"^(?P<sign>[-+]?)\s*(?P<currency>\\?\$|[€£¥￥]|USD|US\$|RMB|EUR|GBP)\s*(?=[-+]?[\d.(\\])"
)
_LETTERS: Final = r"[A-Za-zµμΩ°℃℉\u4e00-\u9fff]"
_RAISED: Final = r"(?:\s*\^\s*\{?[23]\}?|[²³])?"
_UNIT: Final = re.compile(
    r"(?P<core>.*?[\d)}\]!πθ])(?P<space>(?:\s|\\[,;:! ]|~|-(?=[A-Za-z]{3}))*)"
    r"(?P<unit>(?:\\(?:text|mathrm|textrm|mbox|textit|textbf)\s*\{[^{}\d]*\}"
    rf"|(?:\^\s*)?\{{?\s*(?:\\circ|°)\s*\}}?|{_LETTERS}{{1,20}}|[€£¥$¢]){_RAISED}"
    rf"(?:(?:\s*/\s*|\s+|-|\\[,;: ]){_LETTERS}{{1,20}}{_RAISED}|\s*\\(?:text|mathrm)\s*\{{[^{{}}\d]*\}}){{0,6}})\.?",
    re.DOTALL,
)
_OPERATORS: Final = frozenset(
    ["sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "sqrt", "mod", "times", "plus", "minus", "over", "divided",
     "choose", "and", "or", "squared", "cubed", "half", "halves", "third", "thirds", "quarter", "quarters", "fourths", "factorial",
     "not", "no", "never", "except", "than", "percent", "to", "pi", "theta", "if", "when", "but", "其中", "或", "和", "到", "至",
     "infty", "infinity", "union", "cup"]
)  # fmt: skip
_BEFORE: Final = re.compile(
    r"\b(?:not|no|never|cannot|isn't|wasn't|aren't|doesn't|isnt|don't|less|more|fewer|than|least|most|under|over|below|above|between|greater|smaller"
    r"|larger|up to|almost|nearly|half|halve|twice|double|triple|thrice|quarter|third|root|square|cube|plus|times|log|except|without"
    r"|within|exceeds?|beyond|either|neither|minus|negative|unlike|instead of|rather than|multiple|factor|power|percent of|mod|modulo)\b"
    r"|不是|不等于|并非|不到|超过|大于|小于|至少|至多|最多|多于|少于|以上|以下|一半|两倍|[<>≤≥≠~]|\\(?:le|ge|leq|geq|ne|neq|lt|gt)\b",
    re.IGNORECASE,
)  # fmt: skip
_AFTER: Final = re.compile(
    r"^\s*(?:sin|cos|tan|log|mod|times|plus|minus|over|divided|choose|squared|cubed|factorial|or (?:more|less|fewer|greater)|and (?:more|above|up)"
    r"|(?:more|less|fewer|greater|smaller) than|at (?:most|least)|halves|thirds?|quarters?|of\b|to the|times|以上|以下|多|左右不)"
    r"|\bis (?:wrong|not|incorrect|false)|不对|不正确|\bnot\b|\bn't\b",
    re.IGNORECASE,
)  # fmt: skip
_ALIASES: Final = {
    "dollar": "$", "usd": "$", "us$": "$", "buck": "$", "\\$": "$", "euro": "€", "eur": "€", "pound": "£", "gbp": "£", "yuan": "¥",
    "rmb": "¥", "元": "¥", "￥": "¥", "块": "¥", "人民币": "¥", "centimeter": "cm", "centimetre": "cm", "厘米": "cm", "meter": "m", "metre": "m",
    "米": "m", "kilometer": "km", "kilometre": "km", "公里": "km", "千米": "km", "millimeter": "mm", "millimetre": "mm", "毫米": "mm",
    "inche": "in", "inch": "in", "foot": "ft", "feet": "ft", "yard": "yd", "mile": "mi", "kilogram": "kg", "kilo": "kg", "公斤": "kg",
    "千克": "kg", "gram": "g", "克": "g", "pound of": "lb", "lbs": "lb", "ounce": "oz", "second": "s", "sec": "s", "秒": "s", "minute": "min",
    "分钟": "min", "hour": "h", "hr": "h", "小时": "h", "day": "day", "天": "day", "week": "week", "周": "week", "month": "month",
    "个月": "month", "year": "year", "年": "year", "岁": "year", "years old": "year", "liter": "l", "litre": "l", "升": "l", "degree": "°",
    "\\circ": "°", "^\\circ": "°", "度": "°", "cent": "¢", "unit": "", "个": "",
}  # fmt: skip
_IGNORED_WORDS: Final = frozenset(
    [
        "of",
        "per",
        "a",
        "an",
        "the",
        "in",
        "each",
        "total",
        "more",
        "left",
        "old",
        "altogether",
        "remaining",
        "",
    ]
)
_MONTHS: Final = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_MONTH: Final = "(?P<month>" + "|".join(f"{name[:3]}(?:{name[3:]})?" for name in _MONTHS) + r"|sept)\.?"
_DATES: Final = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<year>\d{4})[-/.](?P<number>0?[1-9]|1[0-2])[-/.](?P<day>0?[1-9]|[12]\d|3[01])",
        rf"{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+(?P<year>\d{{4}}))?",
        rf"(?:the\s+)?(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}(?:,?\s+(?P<year>\d{{4}}))?",
        r"(?:(?P<year>\d{4})\s*年\s*)?(?P<number>1[0-2]|0?[1-9])\s*月\s*(?P<day>\d{1,2})\s*[日号]",
    )
]
Date = tuple[int | None, int, int]  # year or None, month, day


@dataclass(frozen=True, slots=True)
class Measured:
    """A text taken apart into what is measured and its unit."""

    core: str
    unit: frozenset[str] = frozenset()
    scale: int = 1
    is_percent: bool = False


@lru_cache(maxsize=8192)
def measured(text: str) -> Measured:
    """Return a number or formula without its currency, unit, scale and per cent sign."""
    units: set[str] = set()
    currency = _CURRENCY.match(text)
    if currency is not None:
        units.add(_alias(currency["currency"].lower()))
        text = currency["sign"] + text[currency.end() :]
    chinese = _CHINESE_PERCENT.match(text)
    if chinese is not None:
        return Measured(text[chinese.end() :], is_percent=True)
    percent = _PERCENT.search(text)
    if percent is not None and percent.start():
        return Measured(text[: percent.start()], is_percent=True)
    scale = 1
    found = re.match(r"[-+]?[\d.,]*\d(?=\s*[A-Za-z百千万亿])", text)
    if found is not None:
        scaled = _SCALE.match(text, found.end())
        if scaled is not None:
            scale = _SCALES[scaled["scale"].lower()]
            text = text[: found.end()] + " " + text[scaled.end() :].strip()
    match = _UNIT.fullmatch(text)
    if match is not None and _can_be_unit(match["unit"], bool(match["space"])):
        words = _unit_words(match["unit"])
        if words is not None:
            return Measured(match["core"].strip(), frozenset(units | words), scale)
    return Measured(text.strip(), frozenset(units), scale)


def _can_be_unit(unit: str, has_space: bool) -> bool:
    """Return whether a text after a number is a unit and no product of variables: not x in 2x, or ab in 2ab."""
    first = re.match(r"[A-Za-z]+", unit)
    if first is None:
        return True
    if len(first[0]) == 1:
        return has_space and first[0] in "gmsLlVWNJKCFh"
    return is_word(first[0])


def _unit_words(unit: str) -> set[str] | None:
    """Return the words of a unit in one spelling; None where it is no unit."""
    text = re.sub(r"\\(?:text|mathrm|textrm|mbox|textit|textbf)\s*", "", unit)
    text = text.replace("²", "^2").replace("³", "^3").lower()
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\circ|°", " degree ", text)
    text = re.sub(
        r"\^\{?([23])\}?", r"^\1", re.sub(r"[{}](?!\^)", " ", text).replace("} ^", "^").replace("}^", "^")
    )
    text = re.sub(r"\s+\^", "^", text).replace("sq.", "square").replace("cubic ", "cube ")
    words = [word for word in re.split(r"[\s/~\\.-]+", text) if word]
    if any(word in _OPERATORS for word in words):
        return None
    result = set()
    power = ""
    for word in words:
        if word in ("square", "sq", "cube", "平方", "立方"):
            power = "^3" if word in ("cube", "立方") else "^2"
            continue
        base, mark, exponent = word.partition("^")
        for chinese, raised in (("平方", "^2"), ("立方", "^3")):
            if base.startswith(chinese) and len(base) > len(chinese):
                base, mark, exponent = base[len(chinese) :], "^", raised[1:]
        result.add(_alias(base) + (mark + exponent if mark else power))
        power = ""
    return {word for word in result if word not in _IGNORED_WORDS}


def _alias(word: str) -> str:
    for each in (word, word.removesuffix("s")):
        if each in _ALIASES:
            return _ALIASES[each]
    return word.removesuffix("s") if len(word) > 3 else word


def units_agree(first: frozenset[str], second: frozenset[str]) -> bool:
    """Return whether two units can be the same: one is not said, or they share a word."""
    return not first or not second or bool(first & second)


def says_otherwise(before: str, after: str) -> bool:
    """Return whether the words around a number make it something else: a negation, a comparison, a part of it."""
    return bool(_BEFORE.search(before) or _AFTER.search(after))


@lru_cache(maxsize=4096)
def date_of(text: str) -> Date | None:
    """Return the date that the whole of a text is; None where it is none."""
    if len(text) > 40:
        return None
    text = re.sub(
        r"^(?:on\s+)?(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s+)?",
        "",
        text.strip(),
        flags=re.IGNORECASE,
    )
    for pattern in _DATES:
        match = pattern.fullmatch(text)
        if match is not None:
            groups = match.groupdict()
            month = groups.get("number")
            named = (groups.get("month") or "").lower()[:3]
            number = (
                int(month)
                if month
                else 1 + next(i for i, name in enumerate(_MONTHS) if name.startswith(named))
            )
            day = int(groups["day"])
            return (int(groups["year"]) if groups["year"] else None, number, day) if 1 <= day <= 31 else None
    return None


def same_text(text: str) -> str:
    """Return a text in the form in which texts are compared: no case, no formatting, single spaces, no article."""
    text = re.sub(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|emph)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\[,;:! ]|~|\*\*|`", " ", text)
    text = re.sub(r"\b([ap])\.?\s?m\b\.?", r"\1m", text.casefold())
    text = re.sub(r"(?<=\d)\s+(?=[ap]m\b)", "", text)
    text = re.sub(r"[\"'“”‘’]", "", text)
    text = " ".join(text.split()).strip(" .,;:!?")
    return re.sub(r"^(?:a|an|the)\s+(?=\S)", "", text)
