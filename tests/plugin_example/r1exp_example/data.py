"""Generates word problems in which two numbers are subtracted from a third, from a seed.

    Ada has 20 apples and sells 7 and 4. How many apples does Ada have now?
    20-7=13
    13-4=9

The splits share no set of numbers.
"""

import random
from collections.abc import Sequence
from itertools import combinations_with_replacement, product
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from r1exp.dataset.base import SPLITS, Dataset, Split
from r1exp.files import hash_of
from r1exp.records import Problem

# All words are in the vocabulary of model=tiny; it would encode other words byte by byte.
_TEMPLATES = (
    "{name} has {first} {item} and sells {second} and {third}. How many {item} does {name} have now?",
    "{name} finds {first} {item}, then sells {second} and {third}. How many {item} does {name} have now?",
)
_NAMES = ("Ada", "Ben", "Eva", "Leo", "Mia", "Sam", "Tom", "Zoe")
_ITEMS = ("apples", "books", "coins", "eggs", "pens", "shells")
_WORDINGS = tuple(product(_TEMPLATES, _NAMES, _ITEMS))


class Subtraction(Dataset):
    """Differences: what is left, and the two numbers that are subtracted, are at most `largest`."""

    seed: NonNegativeInt  # of the split and of every problem
    num_train: PositiveInt  # problems, all different
    num_test: PositiveInt  # problems, all different
    largest: PositiveInt  # the largest difference and the largest subtracted number
    test_share: Annotated[float, Field(gt=0.0, lt=1.0)]  # share of the sets of numbers held out for testing

    @model_validator(mode="after")
    def _there_are_enough_problems(self) -> Self:
        for split in SPLITS:
            wanted, available = self._number(split), len(self.sets(split)) * len(_WORDINGS)
            if wanted > available:
                raise ValueError(
                    f"num_{split}={wanted}, but largest={self.largest} and test_share={self.test_share} give "
                    f"{available} different problems; raise dataset.largest or lower dataset.num_{split}"
                )
        return self

    def sets(self, split: Split) -> list[tuple[int, int, int]]:
        """Return what is left and the two numbers that are subtracted, for every set of numbers of one split."""
        subtracted = combinations_with_replacement(range(1, self.largest + 1), 2)
        sets = [(left, *pair) for pair in subtracted for left in range(self.largest + 1)]
        random.Random(f"split {self.seed}").shuffle(sets)
        num_test = round(self.test_share * len(sets))
        return sets[:num_test] if split == "test" else sets[num_test:]

    def load(self, split: Split) -> list[Problem]:
        """Return the problems of one split, always in the same order."""
        draw = random.Random(f"{split} {self.seed}")
        chosen = draw.sample(list(product(self.sets(split), _WORDINGS)), self._number(split))
        problems = []
        for place, ((left, *subtracted), wording) in enumerate(chosen):
            draw.shuffle(subtracted)
            problems.append(_problem(f"{split}-{place}", left, subtracted, wording))
        return problems

    def count(self, split: Split) -> int:
        """Return the number of problems, without generating them."""
        return self._number(split)

    def fingerprint(self) -> str:
        """Return a hash of all problems, so that it also changes when this file does."""
        return hash_of([problem.to_row([]) for split in SPLITS for problem in self.load(split)])

    def _number(self, split: Split) -> int:
        return self.num_train if split == "train" else self.num_test


def _problem(identity: str, left: int, subtracted: Sequence[int], wording: tuple[str, str, str]) -> Problem:
    second, third = subtracted
    first = left + second + third
    template, name, item = wording
    return Problem(
        id=identity,
        prompt=template.format(name=name, item=item, first=first, second=second, third=third),
        answer=str(left),
        columns={"solution": f"{first}-{second}={left + third}\n{left + third}-{third}={left}"},
    )
