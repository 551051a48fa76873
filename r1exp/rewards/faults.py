"""Describes in one line what is wrong with a user's reward: an error that it raises, or a value that it returns.

The line ends with the file and the line of the user's code, not of the library in which an error came up.
"""

import math
import sysconfig
import traceback
from collections.abc import Sequence
from decimal import Decimal
from numbers import Real
from pathlib import Path
from types import CodeType
from typing import Any

from r1exp.rewards.base import Abstain, Score

NO_VALUE = Abstain("function gave no value")
NOT_FINITE = "not finite"  # reason for a score that is NaN or infinite
_OWN = str(Path(__file__).parents[1])  # the folder of r1exp
_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_LONGEST = 300  # characters of an error message


def fault_of(error: BaseException) -> str:
    """Return the last line of the traceback, and the place in the user's code; only the message for errors of r1exp."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not _is_in(frame.filename, (_OWN,))
    ]
    frames = [frame for frame in frames if not frame.filename.startswith("<frozen")]
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    if not frames and isinstance(error, ValueError):
        return str(error)
    text = "".join(traceback.format_exception_only(error)).strip().partition("\n")[0][:_LONGEST]
    own = [frame for frame in frames if not _is_in(frame.filename, _LIBRARIES)] or frames
    return f"{text} ({own[-1].filename}, line {own[-1].lineno})" if own else text


def place_of(function: Any) -> str:
    """Return the file and the line in which a function is defined, in brackets, or an empty text."""
    code = getattr(function, "__code__", None) or getattr(
        vars(type(function)).get("__call__"), "__code__", None
    )
    return f" ({code.co_filename}, line {code.co_firstlineno})" if isinstance(code, CodeType) else ""


def scores_from(values: Any, num_completions: int) -> list[Score]:
    """Return what a reward returned as scores: numbers of any library; None abstains, NaN and infinity too.

    Raises:
        ValueError: `values` is no sequence of numbers, or has another length; the message says what it is.
    """
    rule = f"it must return a list of {num_completions}, one number (or None) for each completion"
    if callable(getattr(values, "tolist", None)):  # arrays and tensors, wherever they are
        values = values.tolist()
    if callable(values):
        raise ValueError("returned a function; for a name that makes reward functions, set factory=true")
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        what = "None" if values is None else f"a {type(values).__name__}"
        raise ValueError(f"returned {what}; {rule}")
    if len(values) != num_completions:
        raise ValueError(f"returned {len(values)} values for {num_completions} completions; {rule}")
    return [_score_from(value, rule) for value in values]


def _score_from(value: Any, rule: str) -> Score:
    if isinstance(value, Abstain):
        return value
    if value is None:
        return NO_VALUE
    if callable(getattr(value, "tolist", None)):  # numpy's and torch's numbers
        value = value.tolist()
    if not isinstance(value, Real | Decimal):
        shown = repr(value)
        raise ValueError(
            f"returned {shown if len(shown) < 40 else shown[:40] + '...'}, a {type(value).__name__}, for a "
            f"completion; {rule}"
        )
    number = float(value)
    if not math.isfinite(number):
        return Abstain(NOT_FINITE, f"returned {number} for a completion; a score is a finite number, or None")
    return number


def _is_in(file: str, folders: tuple[str, ...]) -> bool:
    return any(file.startswith(f"{folder}/") for folder in folders)
