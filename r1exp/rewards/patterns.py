"""Matches regular expressions of the data with a bound on their time and memory.

A pattern such as `(a|aa)+$` needs exponential time on some texts, and `((a{999}){999}){999}` gigabytes before it reads
any. Python's `re` bounds neither; the `regex` library stops a match after some seconds, and patterns whose counted
repetitions multiply to too much are refused before they are compiled.
"""

from functools import lru_cache
from typing import Any, Final

import regex

_MAX_PATTERN: Final = 2_000  # characters
_MAX_TEXT: Final = 50_000  # characters; longer texts match nothing
_MAX_SIZE: Final = 50_000  # items of a pattern after its counted repetitions are written out
_SECONDS: Final = 0.5  # for one match
_COUNT: Final = regex.compile(r"\{(\d{0,9})(?:(,)(\d{0,9}))?\}")


class UnreadablePattern(ValueError):
    """The pattern is no regular expression, or one that cannot be bounded."""


def compiled(pattern: str) -> "regex.Pattern[str]":
    """Return a compiled pattern. Raises UnreadablePattern with the reason."""
    found = _compiled(pattern)
    if isinstance(found, str):
        raise UnreadablePattern(found)
    return found


def matches(pattern: "regex.Pattern[str]", text: str, *, whole: bool) -> bool | None:
    """Return whether the pattern matches the whole text, or a part of it; None where that takes too long."""
    if len(text) > _MAX_TEXT:
        return None
    match = pattern.fullmatch if whole else pattern.search
    try:
        return match(text, timeout=_SECONDS) is not None
    except (TimeoutError, MemoryError):
        return None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Any:
    """Return the pattern, or the reason why there is none."""
    if len(pattern) > _MAX_PATTERN:
        return f"it has {len(pattern)} characters, and at most {_MAX_PATTERN} are read"
    if _size(pattern) > _MAX_SIZE:
        return f"its counted repetitions multiply to more than {_MAX_SIZE} items"
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError, MemoryError, ValueError) as error:
        return str(error) or type(error).__name__


def _size(pattern: str) -> int:
    """Return about how many items a pattern has after its counted repetitions are written out."""
    sizes = [0]  # of each open group
    last = 0  # items of the last item, which a count multiplies
    position = 0
    while position < len(pattern):
        character = pattern[position]
        count = _COUNT.match(pattern, position) if character == "{" else None
        step = 1
        if count is not None:
            most = int(count[3] or count[1] or 1) if count[2] else int(count[1] or 1)
            sizes[-1] += last * (max(most, 1) - 1)
            last *= max(most, 1)
            step = len(count[0])
        elif character == "(":
            sizes.append(0)
        elif character == ")" and len(sizes) > 1:
            last = sizes.pop() + 1
            sizes[-1] += last
        elif character not in "*+?":
            last = 1
            sizes[-1] += 1
            step = 2 if character == "\\" else 1
        position += step
        if sizes[-1] > _MAX_SIZE:
            return sizes[-1]
    return sum(sizes)
