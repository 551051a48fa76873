r"""Reads the letter of a multiple-choice answer.

`C`, `(C)`, `C.`, `**C**`, `\boxed{C}`, `\text{(C)}`, `答案是C`, `Answer: C`, `Option C`, `C: a longer text` and `(C) a longer
text` are C. Several different letters are no answer: a hedge must not be paid.
"""

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final

from r1exp.judgement.formatting import plain

LETTERS: Final = "ABCDEFGHIJ"  # that may be choices
_LONGEST: Final = 2000  # characters; longer texts are not read


def read_choice(text: str, letters: Collection[str] = LETTERS) -> str | None:
    """Return the one letter that `text` chooses, upper case; None where it chooses none, or several.

    Args:
        text: What stands in the place of the answer.
        letters: The letters of the options, upper case.
    """
    chosen = read_choices(text, letters)
    return chosen[0] if len(chosen) == 1 else None


def read_choices(text: str, letters: Collection[str] = LETTERS) -> list[str]:
    """Return the different letters that `text` chooses, in order; several are a hedge."""
    if len(text) > _LONGEST:
        return []
    inner = plain(text)
    bare = re.sub(r"[\s()\[\].,:;*_$'\"]|\\(?:text|textbf|mathrm|mathbf)|[{}]", "", inner)
    if len(bare) == 1:
        return [bare.upper()] if bare.upper() in letters else []
    allowed = "".join(letter for letter in letters if len(letter) == 1)
    if not allowed or _NEGATION.search(inner):
        return []
    found = [(match[1] or match[2] or match[3]) for match in _pattern(allowed).finditer(inner)]
    return list(dict.fromkeys(found))


_NEGATION: Final = re.compile(r"\b(?:not|isn't|neither|none|except|never)\b|不是|不选|并非", re.IGNORECASE)


@lru_cache(maxsize=64)
def _pattern(letters: str) -> re.Pattern[str]:
    """Return a pattern of letters that stand as a choice: marked by a bracket or a period, named, or at an end."""
    letter = f"([{re.escape(letters)}])"
    not_in_word = r"(?<![A-Za-z0-9\\^_{])"
    return re.compile(
        # (C) or [C], also \text{(C)} and \textbf{C}
        rf"(?:[(\[]|\\(?:text|textbf|mathrm|mathbf)\{{)\s*\(?{letter}\s*\)?(?:[)\]}}])"
        # Option C, 选项C, or C after a conjunction
        rf"|(?:\b[Oo]ptions?|\b[Cc]hoices?|\b[Aa]nswers?|选项|答案|选|\bor|\band|或|和|[/,&])\s*(?:is\s*)?{letter}(?![A-Za-z0-9'])"
        # C at the beginning, before a mark, a conjunction or the end
        rf"|{not_in_word}{letter}(?=\s*(?:[.):、,/&]|$|\bor\b|\band\b|或|和))"
    )
