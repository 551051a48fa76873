r"""Reads the gold answer out of a text, by the name of a rule or by a regular expression.

whole   the text itself
hash    what follows the last `####`, as in GSM8K
boxed   what the last \boxed{...} holds, with balanced braces, as in MATH
other   a regular expression with one group; the last match counts
"""

import re
from functools import cache

from r1exp.errors import Refused
from r1exp.prompt.style import STYLES
from r1exp.settings import nearest

RULES = ("whole", "hash", "boxed")


def known_rule(rule: str) -> str:
    """Return `rule` if it is the name of one, or a regular expression with one group.

    Raises:
        ValueError: it is neither.
    """
    if rule in RULES:
        return rule
    close = nearest(rule, RULES)
    if close and re.fullmatch(r"\w+", rule):
        raise ValueError(f"there is no rule {rule!r}; did you mean {close[0]}?")
    try:
        groups = _compiled(rule).groups
    except re.error as error:
        raise ValueError(f"{rule!r} is no regular expression: {error}") from error
    if groups != 1:
        raise ValueError(
            f"{rule!r} is none of {', '.join(RULES)}, and a regular expression needs one group for the answer, as in "
            r"'answer is (\S+)'; it has " + str(groups)
        )
    return rule


def extracted(text: str, rule: str, column: str, place: str) -> str:
    """Return the gold answer in a text.

    Raises:
        Refused: the rule finds none; the message names `place`.
    """
    if rule == "whole":
        return text
    if rule == "hash":
        found: str | None = text.rpartition("####")[2] if "####" in text else None
        what = "no last line `#### gold`"
    elif rule == "boxed":
        found, what = STYLES["boxed"].read_answer(text), r"no \boxed{...}"
    else:
        matches = _compiled(rule).findall(text)
        found, what = (matches[-1] if matches else None), f"nothing that {rule!r} matches"
    if found is None or not found.strip():
        raise Refused(
            f"{place}: column {column!r} has {what}, where dataset.extract={rule} reads the gold answer; correct the row, or "
            "choose another dataset.extract (whole: the column is the answer)"
        )
    return found.strip()


def reasoning(text: str, rule: str) -> str:
    """Return the worked solution in a text that also holds the answer: with `hash`, what comes before the mark."""
    return text.rpartition("####")[0].strip() if rule == "hash" else text.strip()


@cache
def _compiled(rule: str) -> re.Pattern[str]:
    return re.compile(rule, re.DOTALL)
