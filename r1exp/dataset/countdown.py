"""Generates problems of the countdown game: make a target from some numbers, each used once, with + - * /.

    Using the numbers 3, 7 and 25, write an expression that equals 82. ...      25 * 3 + 7

Every problem has a solution, because the target is computed from one; `rewards=countdown` accepts every expression that obeys
the rules. The splits share no set of numbers with its target.

Source: TinyZero, https://github.com/Jiayi-Pan/TinyZero, which showed R1-Zero's learning on this game.
"""

import random
from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from r1exp.dataset.base import SPLITS, Dataset, Split
from r1exp.errors import Refused
from r1exp.files import hash_of
from r1exp.records import Problem

_MOST_DRAWN = 200  # draws for each problem, before the settings count as too narrow
_VERSION = 1  # of the generator; part of the fingerprint


class Countdown(Dataset):
    """Sets of numbers, and targets that can be made from them."""

    kind: Literal["countdown"]
    seed: NonNegativeInt  # of every problem
    num_train: PositiveInt  # problems, all different
    num_test: PositiveInt  # problems, all different, none of them in the training split
    least_numbers: Annotated[int, Field(ge=2, le=6)]  # numbers in a problem, at least
    most_numbers: Annotated[int, Field(ge=2, le=6)]  # numbers in a problem, at most
    max_number: Annotated[int, Field(ge=2)]  # the largest number
    max_target: PositiveInt  # the largest target; the smallest is 1

    @model_validator(mode="after")
    def _the_numbers_have_an_order(self) -> Self:
        if self.least_numbers > self.most_numbers:
            raise ValueError(
                f"least_numbers={self.least_numbers} is more than most_numbers={self.most_numbers}; lower "
                "dataset.least_numbers, or raise dataset.most_numbers"
            )
        return self

    def load(self, split: Split) -> list[Problem]:
        """Return the problems of one split.

        Raises:
            Refused: the settings give too few different problems.
        """
        tests = self._generated("test", set())
        keys = {_key(problem) for problem in tests}
        return tests if split == "test" else self._generated("train", keys)

    def count(self, split: Split) -> int:
        """Return the number of problems, without generating them."""
        return self.num_train if split == "train" else self.num_test

    def fingerprint(self) -> str:
        """Return a hash of both splits."""
        return hash_of([self.fingerprint_of(split) for split in SPLITS])

    def fingerprint_of(self, split: Split) -> str:
        """Return a hash of the settings that decide one split; the number of training problems decides no test problem."""
        return hash_of(
            [_VERSION, split, self.model_dump(exclude={"num_train"} if split == "test" else set())]
        )

    def _generated(self, split: Split, excluded: set[str]) -> list[Problem]:
        draw = random.Random(f"countdown {split} {self.seed}")
        seen = set(excluded)
        problems: list[Problem] = []
        wanted = self.count(split)
        for _ in range(_MOST_DRAWN * wanted):
            problem = self._problem(draw, f"{split}-{len(problems):05d}")
            if problem is None or _key(problem) in seen:
                continue
            seen.add(_key(problem))
            problems.append(problem)
            if len(problems) == wanted:
                return problems
        raise Refused(
            f"dataset.num_{split}={wanted}: these settings give only {len(problems)} different problems; lower "
            f"dataset.num_{split}, or raise dataset.max_number, dataset.max_target or dataset.most_numbers"
        )

    def _problem(self, draw: random.Random, identity: str) -> Problem | None:
        """Return a problem from random numbers and operations; None where they reach no target."""
        numbers = [
            draw.randint(1, self.max_number)
            for _ in range(draw.randint(self.least_numbers, self.most_numbers))
        ]
        terms = [(Fraction(number), str(number)) for number in numbers]
        while len(terms) > 1:
            (left, first), (right, second) = (terms.pop(draw.randrange(len(terms))) for _ in range(2))
            operation = draw.choice("+-*/")
            if operation == "/" and (right == 0 or left % right):
                return None
            value = {"+": left + right, "-": left - right, "*": left * right}.get(operation)
            terms.append((left / right if value is None else value, f"({first} {operation} {second})"))
        target, expression = terms[0]
        if not 1 <= target <= self.max_target or target in numbers:
            return None
        listed = ", ".join(map(str, numbers[:-1]))
        question = (
            f"Using the numbers {listed} and {numbers[-1]}, write an expression that equals {target}. Use each number exactly "
            "once, and only +, -, *, / and parentheses."
        )
        columns = {"numbers": numbers, "target": int(target)}
        return Problem(identity, question, expression.removeprefix("(").removesuffix(")"), columns)


def _key(problem: Problem) -> str:
    """Return the numbers in any order and the target, by which two problems are the same."""
    return f"{sorted(problem.columns['numbers'])} {problem.columns['target']}"
