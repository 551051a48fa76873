"""Base class of generated sums: their numbers, and which of them are held out."""

import math
import random
from abc import abstractmethod
from itertools import combinations_with_replacement
from typing import Annotated, ClassVar, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from r1exp.dataset.base import SPLITS, Dataset, Split
from r1exp.files import hash_of
from r1exp.records import Problem

MAX_OPERAND_SETS = 100_000  # enumerated in well under a second

OperandSet = tuple[int, ...]  # sorted


class Sums(Dataset):
    """Sums of `num_operands` numbers between 1 and `max_operand`; no set of numbers is in both splits."""

    seed: NonNegativeInt  # of the split and of every problem
    num_train: PositiveInt  # problems, all different
    num_test: PositiveInt  # problems, all different
    num_operands: Annotated[int, Field(ge=2, le=6)]  # numbers in a sum
    max_operand: PositiveInt  # the largest number in a sum
    # Share of the operand sets that is held out for the test split.
    test_share: Annotated[float, Field(gt=0.0, lt=1.0)]

    num_wordings: ClassVar[int]  # different questions about the same numbers in the same order

    @model_validator(mode="after")
    def _there_are_enough_problems(self) -> Self:
        num_sets = math.comb(self.max_operand + self.num_operands - 1, self.num_operands)
        if num_sets > MAX_OPERAND_SETS:
            raise ValueError(
                f"num_operands={self.num_operands} with max_operand={self.max_operand} gives {num_sets:,} "
                f"sets of operands, more than {MAX_OPERAND_SETS:,}; lower dataset.max_operand"
            )
        num_test_sets = round(self.test_share * num_sets)
        for split, wanted, available in (
            ("train", self.num_train, num_sets - num_test_sets),
            ("test", self.num_test, num_test_sets),
        ):
            if wanted > available * self.num_wordings:
                raise ValueError(
                    f"num_{split}={wanted} different problems cannot be generated from {available} sets of operands "
                    f"in {self.num_wordings} wordings (max_operand={self.max_operand}, "
                    f"test_share={self.test_share}); raise dataset.max_operand or lower dataset.num_{split}"
                )
        return self

    @abstractmethod
    def generated(self, split: Split, num_problems: int) -> list[Problem]:
        """Return that many problems of one split; a smaller number gives the first ones of a larger."""

    def operand_sets(self, split: Split) -> list[OperandSet]:
        """Return the sets of operands of one split; no set is in both splits."""
        sets = list(combinations_with_replacement(range(1, self.max_operand + 1), self.num_operands))
        random.Random(f"split {self.seed}").shuffle(sets)
        num_test_sets = round(self.test_share * len(sets))
        return sets[:num_test_sets] if split == "test" else sets[num_test_sets:]

    def load(self, split: Split) -> list[Problem]:
        """Return the problems of one split; a smaller number of problems gives the first ones of a larger."""
        return self.generated(split, self.count(split))

    def count(self, split: Split) -> int:
        """Return the number of problems, without generating them."""
        return self.num_train if split == "train" else self.num_test

    def first(self, split: Split, num_problems: int) -> list[Problem]:
        """Return the first problems of one split, without generating the others."""
        return self.generated(split, min(num_problems, self.count(split)))

    def fingerprint(self) -> str:
        """Return a hash of both splits."""
        return hash_of([self.fingerprint_of(split) for split in SPLITS])
