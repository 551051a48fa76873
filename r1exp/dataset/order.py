"""Orders training rows, so that a curriculum can be learned in.

    easy_first   the lowest number in a column first; without a column the shortest worked solution, else the shortest question
    pass_rate    the highest share of correct answers first; stage=sample writes the column pass_rate
    random       one random order, which the run's seed decides: the control of a curriculum

Rows that are equally hard stay in the order of the data. Every epoch has the same order, on any number of ranks.

Source: curriculum learning (Bengio et al., ICML 2009).
"""

import math
import random
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from r1exp.dataset.rows import find, names_in
from r1exp.errors import Refused
from r1exp.records import Problem
from r1exp.settings import nearest

Order = Literal["easy_first", "pass_rate", "random"]
PASS_RATE = "pass_rate"  # the column that stage=sample writes: share of correct answers


def ordered(
    problems: Iterable[Problem], order: Order | None, column: str | None, seed: int
) -> Iterator[Problem]:
    """Yield problems in an order; in that of the data if it is None, without holding them in memory.

    Args:
        problems: Read once.
        order: How they are ordered.
        column: The column with the difficulty, or with the share of correct answers; None: see above.
        seed: Of a random order.

    Raises:
        Refused: a row has no number in that column.
    """
    if order is None:
        yield from problems
        return
    rows = list(problems)
    if order == "random":
        random.Random(seed).shuffle(rows)
    elif order == "pass_rate":
        rows.sort(key=lambda problem: -_number(problem, column or PASS_RATE))
    elif column is not None:
        rows.sort(key=lambda problem: _number(problem, column))
    else:
        rows.sort(key=_length)
    yield from rows


def _length(problem: Problem) -> int:
    """Return the characters of the worked solution, or of the question where a row has none."""
    solution = problem.columns.get("solution") or problem.completion
    return len(str(solution)) if solution else len(problem.text)


def _number(problem: Problem, column: str) -> float:
    found, value = find(problem.columns, column)
    number = _as_number(value)
    if number is not None:
        return number
    names = names_in(dict(problem.columns))
    close = nearest(column, names)
    hint = f" Did you mean dataset.order_by={close[0]}?" if close and not found else ""
    held = f"holds {value!r}" if found else f"is not there, only {names}"
    sample = "; stage=sample writes it (pipeline=filtered_grpo)" if column == PASS_RATE else ""
    raise Refused(
        f"dataset.order sorts by the number in column {column!r}, which in problem {problem.id!r} {held}{sample}.{hint} "
        "Name a column with numbers in dataset.order_by, or leave dataset.order out"
    )


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
