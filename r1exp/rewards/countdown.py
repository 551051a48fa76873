"""Scores an expression of the countdown game: 1 if it uses each number exactly once and equals the target, else 0.

    expression  product {("+" | "-") product}
    product     atom {("*" | "/") atom}
    atom        number | "(" expression ")"

Values are exact fractions. `×`, `·`, `÷`, \\times, \\cdot and \\div are read as their operations; what follows an equals sign
must be the target. Anything else (another letter, a sign before a number, a power) is wrong. Each answer takes linear time.
Columns: `numbers`, a list of whole numbers, and `target`.

Source: TinyZero, https://github.com/Jiayi-Pan/TinyZero, which gives 0.1 for the right form; here `format` does that.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar, Final, Literal

from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import UNREADABLE_GOLD, Context, Reward, Score, Span

_LONGEST: Final = 400  # characters of an answer
_DEEPEST: Final = 20  # brackets in brackets
_WRITTEN: Final = {
    "×": "*",
    "·": "*",
    "⋅": "*",
    "÷": "/",
    "−": "-",
    r"\times": "*",
    r"\cdot": "*",
    r"\div": "/",
}  # signs that models write
_TOKENS: Final = re.compile(r"\s*(?:([0-9]{1,9})|([-+*/()=]))")


class Wrong(Exception):
    """The text is no expression of the game."""


class CountdownReward(Reward):
    """Checks an expression against the numbers and the target of the problem."""

    kind: Literal["countdown"] = "countdown"
    style: StyleName  # decides where the answer is read
    judges_correctness: ClassVar[bool] = True
    needs_gold: ClassVar[bool] = False

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del context
        numbers, target = problem.columns.get("numbers"), problem.columns.get("target")
        if not isinstance(numbers, Sequence) or isinstance(numbers, str) or not numbers or target is None:
            return UNREADABLE_GOLD
        answer = style_named(self.style).read_answer(completion.text)
        return (
            0.0
            if answer is None
            else float(is_solution(answer, [int(number) for number in numbers], int(target)))
        )

    def cheats(self, problem: Problem) -> dict[str, str]:
        """Return answers that equal the target without obeying the rules."""
        numbers, target = problem.columns.get("numbers") or [1], problem.columns.get("target")
        zero = " + ".join(f"0 * {number}" for number in numbers)
        return {
            "the target alone": str(target),
            "the target as an equation": f"{target} = {target}",
            "the target and nothing of the numbers": f"{target} + {zero}",
            "the numbers listed": f"{', '.join(map(str, numbers))} = {target}",
        }


def is_solution(text: str, numbers: Sequence[int], target: int) -> bool:
    """Return whether a text is an expression that uses each number exactly once and equals the target."""
    if len(text) > _LONGEST:
        return False
    for written, sign in _WRITTEN.items():
        text = text.replace(written, sign)
    try:
        return _Expression(text).solves(numbers, target)
    except Wrong:
        return False


class _Expression:
    """Reads one expression."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        position, text = 0, text.strip().strip("$").strip()
        while position < len(text):
            found = _TOKENS.match(text, position)
            if found is None:
                raise Wrong
            self._tokens.append(found[1] or found[2])
            position = found.end()
        self._place = 0
        self._used: list[int] = []

    def solves(self, numbers: Sequence[int], target: int) -> bool:
        value = self._sum(0)
        used = sorted(self._used)
        if self._next() == "=":
            self._place += 1
            if self._tokens[self._place :] != [str(target)]:
                return False
        elif self._next() is not None:
            return False
        return used == sorted(numbers) and value == target

    def _next(self) -> str | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def _sum(self, depth: int) -> Fraction:
        value = self._product(depth)
        while (sign := self._next()) in ("+", "-"):
            self._place += 1
            other = self._product(depth)
            value = value + other if sign == "+" else value - other
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._atom(depth)
        while (sign := self._next()) in ("*", "/"):
            self._place += 1
            other = self._atom(depth)
            if sign == "/" and other == 0:
                raise Wrong
            value = value * other if sign == "*" else value / other
        return value

    def _atom(self, depth: int) -> Fraction:
        token = self._next()
        self._place += 1
        if token is not None and token.isdecimal():
            self._used.append(int(token))
            return Fraction(int(token))
        if token != "(" or depth == _DEEPEST:
            raise Wrong
        value = self._sum(depth + 1)
        if self._next() != ")":
            raise Wrong
        self._place += 1
        return value
