r"""Splits a formula into tokens, in LaTeX, in plain text (`2*sqrt(3)`) or with Unicode signs (`2√3`, `½`, `x²`).

A token is a number as it is written, a letter, a sign, or a command without its backslash.
"""

import re
from typing import Final


class TooLarge(ArithmeticError):
    """The formula has no value, or would take more time or memory than any answer is worth."""


class NotAFormula(ValueError):
    """The text is no formula, or one that is not known here."""


_MOST_TOKENS: Final = 2000
_LONGEST_NUMBER: Final = 4000  # digits
_FRACTIONS = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5",
    "⅙": "1/6", "⅚": "5/6", "⅐": "1/7", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8", "⅑": "1/9", "⅒": "1/10",
}  # fmt: skip
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ", "0123456789+-ni", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_SIGNS = {
    "π": "\\pi ", "∞": "\\infty ", "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "∙": "\\cdot ", "÷": "/", "⁄": "/",
    "∕": "/", "±": "\\pm ", "∓": "\\mp ", "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "≈": "\\approx ", "∪": "\\cup ", "∩": "\\cap ",
    "∈": "\\in ", "∅": "\\emptyset ", "°": "^\\circ ", "θ": "\\theta ", "α": "\\alpha ", "β": "\\beta ", "γ": "\\gamma ",
    "λ": "\\lambda ", "μ": "\\mu ", "φ": "\\phi ", "ω": "\\omega ", "ρ": "\\rho ", "σ": "\\sigma ", "Δ": "\\Delta ",
    "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "ℕ": "\\mathbb{N}", "∛": "\\sqrt[3]", "∜": "\\sqrt[4]", "√": "\\sqrt",
    "⟨": "\\langle ", "⟩": "\\rangle ", "−": "-", "–": "-", "∖": "\\setminus ",
}  # fmt: skip
_UNICODE: Final = re.compile(
    "|".join(map(re.escape, [*_FRACTIONS, *_SIGNS]))
    + f"|[{''.join(_SUPERSCRIPTS)}]+|[{''.join(_SUBSCRIPTS)}]+"
)
_THOUSANDS: Final = re.compile(
    r"(?<![\d.])\d{1,3}(?:(?:\{,\}|,?\\!|\\,|\\ |,\\,)\d{3})+(?!\d)"
)  # with LaTeX's separators
_COMMAS: Final = re.compile(r"\d{1,3}(?:,\d{3})+(?![\d])")
_IGNORED: Final = re.compile(
    r"\\(?:left|right|[bB]ig+[lrm]?|displaystyle|textstyle|limits|quad|qquad|phantom\{[^{}]*\}|mathop|operatorname\*?)(?![A-Za-z])"
    r"|\\[,;:!> ]|~|\s+"
)
_TOKEN: Final = re.compile(
    r"\\(?P<part>begin|end)\s*\{(?P<environment>[A-Za-z]+)\*?\}|\\mathbb\s*\{?(?P<set>[A-Z])\}?"
    r"|\\(?:text|mathrm|textrm|mbox|textbf|mathbf|mathit|operatorname)\s*\{(?P<text>[^{}]*)\}"
    r"|(?P<number>\d+(?:\.\d+)?|\.\d+)|\\(?P<command>[A-Za-z]+|.)|(?P<letters>[A-Za-z]+)|(?P<sign>[-+*/^_{}()\[\]|,=<>!;:%&'])",
    re.DOTALL,
)
_SAME: Final = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "geq": "ge", "leqslant": "le", "geqslant": "ge", "neq": "ne",
    "lt": "<", "gt": ">", "times": "*", "cdot": "*", "ast": "*", "div": "/", "dbinom": "binom", "tbinom": "binom",
    "lbrace": "\\{", "rbrace": "\\}", "lvert": "|", "rvert": "|", "vert": "|", "mid": "|", "lbrack": "[", "rbrack": "]",
    "varnothing": "emptyset", "lparen": "(", "rparen": ")", "{": "\\{", "}": "\\}", "|": "|", "colon": ":", "to": "rightarrow",
    "varphi": "phi", "varepsilon": "epsilon", "approxeq": "approx", "simeq": "approx", "prime": "'", "%": "%", "#": "#",
}  # fmt: skip
NAMES: Final = {  # of plain text
    "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "pi", "abs", "arcsin", "arccos", "arctan", "sinh", "cosh",
    "tanh", "floor", "ceil", "inf", "infinity", "infty", "theta", "alpha", "beta", "gamma", "lambda", "phi", "omega", "oo", "cbrt",
    "binom", "max", "min", "gcd", "lcm", "union", "cup",
}  # fmt: skip
_PLAIN: Final = {"inf": "infty", "infinity": "infty", "oo": "infty", "union": "cup"}
_WORDS_OF_TWO: Final = frozenset(
    [
        "am",
        "an",
        "as",
        "at",
        "be",
        "by",
        "do",
        "go",
        "he",
        "if",
        "in",
        "is",
        "it",
        "me",
        "my",
        "no",
        "of",
        "on",
        "or",
        "so",
        "to",
        "up",
        "us",
        "we",
        "cm",
        "mm",
        "km",
        "kg",
        "mg",
        "ml",
        "ft",
        "hr",
        "pm",
        "oz",
        "lb",
        "mi",
        "yd",
        "gb",
        "mb",
        "kb",
        "tb",
        "hz",
        "kw",
        "ev",
        "qt",
        "kj",
        "cl",
        "dl",
        "nm",
        "yr",
        "hp",
        "sq",
        "lbs",
    ]
)
_RUNS: Final = (
    "abcdefghij",
    "pqrstuvw",
    "uvwxyz",
    "klmn",
)  # a product of variables such as abc or xyz is no word


def tokens_of(text: str) -> list[str]:
    """Return the tokens of a formula.

    Raises:
        NotAFormula: it has words or unknown signs, or is too long.
    """
    text = _UNICODE.sub(_in_latex, text)
    text = _THOUSANDS.sub(lambda match: re.sub(r"\D", "", match[0]), text)
    found: list[str] = []
    position, depth, end = 0, 0, len(text)
    while position < end:
        ignored = _IGNORED.match(text, position)
        if ignored is not None:
            if (
                ignored[0].lstrip("\\") in ("left", "right")
                and text[ignored.end() : ignored.end() + 1] == "."
            ):
                position = ignored.end() + 1  # \left. has no bracket
            else:
                position = ignored.end()
            continue
        commas = _COMMAS.match(text, position) if depth == 0 else None
        match = _TOKEN.match(text, position)
        if match is None:
            raise NotAFormula(f"it has {text[position]!r}")
        if len(found) > _MOST_TOKENS:
            raise TooLarge
        position = match.end()
        if commas is not None and not (found and is_number(found[-1])):
            decimals = _DECIMALS.match(text, commas.end())
            position = commas.end() if decimals is None else decimals.end()
            found.append(_number(text[match.start() : position].replace(",", "")))
        elif match["number"]:
            found.append(_number(match["number"]))
        elif match["environment"]:
            depth += 1 if match["part"] == "begin" else -1
            found.append(f"{match['part']} {match['environment']}")
        elif match["set"]:
            found.append(f"set {match['set']}")
        elif match["text"] is not None:
            found += _words(match["text"].strip())
        elif match["command"]:
            name = _SAME.get(match["command"], match["command"])
            depth += _DEPTH.get(name, 0)
            found.append(name)
        elif match["letters"]:
            found += _letters(match["letters"])
        else:
            depth += _DEPTH.get(match["sign"], 0)
            found.append(match["sign"])
    return found


def is_number(token: str) -> bool:
    """Return whether a token is a number."""
    return token[0] in "0123456789."


_DECIMALS: Final = re.compile(r"\.\d+")
_DEPTH: Final = {"\\{": 1, "\\}": -1, "(": 1, ")": -1, "[": 1, "]": -1}


def _in_latex(match: re.Match[str]) -> str:
    sign = match[0]
    if sign in _FRACTIONS:
        above, _, below = _FRACTIONS[sign].partition("/")
        return f"\\frac{{{above}}}{{{below}}}"
    if sign in _SIGNS:
        return _SIGNS[sign]
    if sign[0] in _SUPERSCRIPTS:
        return "^{" + "".join(_SUPERSCRIPTS[each] for each in sign) + "}"
    return "_{" + "".join(_SUBSCRIPTS[each] for each in sign) + "}"


def _number(digits: str) -> str:
    if len(digits) > _LONGEST_NUMBER:
        raise NotAFormula("a number has too many digits")
    return digits


def _words(text: str) -> list[str]:
    """Return the tokens of upright text in a formula: a conjunction, a name or a letter."""
    if text in ("or", "and", "或", "和"):
        return ["or"]
    if not text.isascii() or not text.isalpha():
        raise NotAFormula(f"it has the text {text!r}")
    return _letters(text)


def _letters(text: str) -> list[str]:
    """Return a name, or the variables of a product."""
    if len(text) == 1:
        return [text]
    if text in NAMES:
        return [_PLAIN.get(text, text)]
    if text in ("or", "and"):
        return ["or"]
    if not is_word(text):
        return list(text)
    raise NotAFormula(f"it has the word {text!r}")


def is_word(text: str) -> bool:
    """Return whether letters are a word; else they are variables, as in `ab` and `xyz`."""
    if len(text) == 2:
        return text.lower() in _WORDS_OF_TWO
    return len(text) > 2 and not any(text in run or text.lower() == text.upper() for run in _RUNS)
