"""Generates word problems whose answer is a sum, in the format of GSM8K, from a seed.

    Ada has 3 apples and gets 12 and 7 more. How many apples does Ada have now?
    3+12=15
    15+7=22

The splits share no multiset of operands: the sets are divided into train and test before problems are
rendered, so a test problem is never a training problem with reordered numbers or another name. The
vocabulary is small and fixed (`all_texts`), so that a tokenizer can be built for it.
"""

import random
from itertools import accumulate, pairwise, product
from typing import Literal

from r1exp.dataset.base import Split
from r1exp.dataset.sums import Sums
from r1exp.files import hash_of
from r1exp.records import Problem

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


class Arithmetic(Sums):
    """Sums of `num_operands` numbers between 1 and `max_operand`."""

    kind: Literal["arithmetic"]

    num_wordings = len(_RENDERINGS)

    def fingerprint_of(self, split: Split) -> str:
        """Return a hash of the settings, the wordings and a sample of problems; not of the other split's size."""
        sample = [problem.prompt for problem in self.generated(split, 16)]
        settings = self.model_dump(exclude={"num_test" if split == "train" else "num_train"})
        return hash_of([settings, split, [*_TEMPLATES, *_NAMES, *_ITEMS], sample])

    def generated(self, split: Split, num_problems: int) -> list[Problem]:
        """Return that many problems of one split; a smaller number gives the first ones of a larger."""
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
