"""Generates word problems whose answer is a sum, in the format of GSM8K, from a seed.

    Ada has 3 apples and gets 12 and 7 more. How many apples does Ada have now?
    3+12=15
    15+7=22

The splits share no multiset of operands: the sets are divided into train and test before problems are
rendered, so a test problem is never a training problem with reordered numbers or another name. The
vocabulary is small and fixed (`all_texts`), so that a tokenizer can be built for it.
"""

import math
import random
from itertools import accumulate, combinations_with_replacement, pairwise, product
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from r1exp.dataset.base import SPLITS, Dataset, Split
from r1exp.files import hash_of
from r1exp.records import Problem

MAX_OPERAND_SETS = 100_000  # enumerated in well under a second

_TEMPLATES = (
    "{name} has {first} {item} and gets {rest} more. How many {item} does {name} have now?",
    "{name} buys {all} {item}. How many {item} is that in total?",
    "{name} finds {first} {item}, then {rest} more. How many {item} is that in total?",
    "There are {first} {item} in a box. {name} adds {rest} more. How many {item} are in the box now?",
    "{name} sells {all} {item}. How many {item} does {name} sell in total?",
)
_NAMES = ("Ada", "Ben", "Eva", "Leo", "Mia", "Sam", "Tom", "Zoe")
_ITEMS = ("apples", "books", "coins", "eggs", "pens", "shells")
_RENDERINGS = tuple(product(_TEMPLATES, _NAMES, _ITEMS))

OperandSet = tuple[int, ...]  # sorted


class Arithmetic(Dataset):
    """Sums of `num_operands` numbers between 1 and `max_operand`."""

    kind: Literal["arithmetic"]
    seed: NonNegativeInt  # of the split and of every problem
    num_train: PositiveInt  # problems, all different
    num_test: PositiveInt  # problems, all different
    num_operands: Annotated[int, Field(ge=2, le=6)]  # numbers in a sum
    max_operand: PositiveInt  # the largest number in a sum
    # Share of the operand sets that is held out for the test split.
    test_share: Annotated[float, Field(gt=0.0, lt=1.0)]

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
            if wanted > available * len(_RENDERINGS):
                raise ValueError(
                    f"num_{split}={wanted} different problems cannot be generated from {available} sets of operands "
                    f"in {len(_RENDERINGS)} wordings (max_operand={self.max_operand}, "
                    f"test_share={self.test_share}); raise dataset.max_operand or lower dataset.num_{split}"
                )
        return self

    def operand_sets(self, split: Split) -> list[OperandSet]:
        """Return the sets of operands of one split; no set is in both splits."""
        sets = list(combinations_with_replacement(range(1, self.max_operand + 1), self.num_operands))
        random.Random(f"split {self.seed}").shuffle(sets)
        num_test_sets = round(self.test_share * len(sets))
        return sets[:num_test_sets] if split == "test" else sets[num_test_sets:]

    def load(self, split: Split) -> list[Problem]:
        """Return the problems of one split; a smaller number of problems gives the first ones of a larger."""
        return self._first(split, self.num_train if split == "train" else self.num_test)

    def count(self, split: Split) -> int:
        """Return the number of problems, without generating them."""
        return self.num_train if split == "train" else self.num_test

    def first(self, split: Split, num_problems: int) -> list[Problem]:
        """Return the first problems of one split, without generating the others."""
        return self._first(split, min(num_problems, self.count(split)))

    def fingerprint(self) -> str:
        """Return a hash of both splits."""
        return hash_of([self.fingerprint_of(split) for split in SPLITS])

    def fingerprint_of(self, split: Split) -> str:
        """Return a hash of the settings, the wordings and a sample of problems; not of the other split's size."""
        sample = [problem.prompt for problem in self._first(split, 16)]
        settings = self.model_dump(exclude={"num_test" if split == "train" else "num_train"})
        return hash_of([settings, split, [*_TEMPLATES, *_NAMES, *_ITEMS], sample])

    def _first(self, split: Split, num_problems: int) -> list[Problem]:
        sets = self.operand_sets(split)
        draw = random.Random(f"{split} {self.seed}")
        problems: dict[str, Problem] = {}  # by question
        while len(problems) < num_problems:
            operands = list(draw.choice(sets))
            draw.shuffle(operands)
            question = _question(operands, *draw.choice(_RENDERINGS))
            problem = _problem(f"{split}-{len(problems):05d}", question, operands)
            problems.setdefault(question, problem)
        return list(problems.values())


def all_texts() -> list[str]:
    """Return texts that contain every word, punctuation mark and digit of any problem and solution."""
    texts = ["0 1 2 3 4 5 6 7 8 9"]
    for template, name, item in _RENDERINGS:
        operands = [3, 12, 7]
        texts += [_question(operands, template, name, item), _solution(operands)]
    return texts


def _problem(identity: str, question: str, operands: list[int]) -> Problem:
    columns = {"solution": _solution(operands), "operands": " ".join(map(str, sorted(operands)))}
    return Problem(id=identity, prompt=question, answer=str(sum(operands)), columns=columns)


def _question(operands: list[int], template: str, name: str, item: str) -> str:
    return template.format(
        name=name, item=item, first=operands[0], rest=_listed(operands[1:]), all=_listed(operands)
    )


def _listed(numbers: list[int]) -> str:
    """Return `3, 12 and 7`."""
    *others, last = map(str, numbers)
    return f"{', '.join(others)} and {last}" if others else last


def _solution(operands: list[int]) -> str:
    """Return one line per partial sum: 3+12=15, then 15+7=22."""
    sums = pairwise(accumulate(operands))
    return "\n".join(
        f"{before}+{operand}={after}" for (before, after), operand in zip(sums, operands[1:], strict=True)
    )
