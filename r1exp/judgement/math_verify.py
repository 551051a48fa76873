r"""Compares two formulas with math-verify. To be called in a worker process.

Does not use math-verify's own timeouts, which are signals; the caller must bound the time. The text in
the answer's place is read as one formula (`2x` is not 2); a text that contains words is searched for a
formula (`18 dollars` gives 18).
"""

import logging
import re
from functools import lru_cache
from typing import Any

import math_verify

_MARKED = re.compile(r"\$|\\boxed|\\\(|\\\[")
_WORD = re.compile(r"(?<![A-Za-z\\{])(?!(?:sin|cos|tan|cot|sec|csc|log|exp|sqrt|max|min|mod)\b)[A-Za-z]{3,}")

# Its messages are "timeout is disabled", which is intended, and remarks on single formulas.
logging.getLogger("math_verify").setLevel(logging.CRITICAL)


def same_formula(gold: str, answer: str) -> bool | None:
    """Return whether `answer` is mathematically the same as `gold`; None when gold is unreadable."""
    target = parsed(gold)
    # Without a formula, math-verify returns the text itself.
    if all(isinstance(reading, str) for reading in target):
        return None
    if answer.strip() == gold.strip():
        return True
    return bool(math_verify.verify(list(target), list(parsed(answer)), timeout_seconds=None))


@lru_cache(maxsize=4096)
def parsed(text: str) -> tuple[Any, ...]:
    """Return the readings of `text` by math-verify.

    Cached, because a group has one gold answer and often equal answers.
    """
    text = text.strip().replace("\\%", "%")  # math-verify ignores an escaped sign in LaTeX
    if not (_MARKED.search(text) or _WORD.search(text)):
        text = f"${text}$"
    return tuple(math_verify.parse(text, parsing_timeout=None))


def warm_up() -> None:
    """Fill the caches of the parser and of sympy before workers are forked; a first formula takes 0.1 s."""
    for gold, answer in _TYPICAL:
        same_formula(gold, answer)
    parsed.cache_clear()


_TYPICAL = (
    (r"\frac{1}{2}", "0.5"),
    (r"\dfrac{3\pi}{4}", r"3\pi/4"),
    (r"2\sqrt{3}", r"\sqrt{3}\cdot 2"),
    (r"\frac{1+\sqrt{5}}{2}", r"\frac{\sqrt{5}-1}{2}"),
    (r"x^2+2x+1", "(x+1)^2"),
    (r"\{1,2\}", r"\{2,1\}"),
    (r"\left(1,2\right)", "(1,2)"),
    (r"[0,\infty)", r"[0, \infty)"),
    ("2^{10}", "1024"),
    ("y=3x-1", "y=3x+1"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}"),
    ("5 dollars", "6"),
)
