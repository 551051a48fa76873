"""Generates sums as word problems in English or Chinese, worked in the language of the question, from a seed.

    Ada has 3 apples and gets 12 and 7 more. How many apples does Ada have now?
    We add twelve to three and get fifteen.
    We add seven to fifteen and get twenty-two.

    小明有3个苹果，又得到12个和7个。小明现在有几个苹果？
    三加十二等于十五。
    十五加七等于二十二。

A small model is to learn both, and may be taught one better than the other (`zh_share`) and by imperfect examples
(`mixed_share`): this is the task on which language mixing is measured (docs/twin.md). The column `language` is en or
zh. The splits share no multiset of operands. The words are few and fixed (`all_texts`), so that a tokenizer can be built.
"""

import math
import random
from collections.abc import Callable
from itertools import accumulate, combinations_with_replacement, pairwise, product
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from r1exp.dataset.base import SPLITS, Dataset, Split
from r1exp.dataset.numerals import LARGEST, chinese, english
from r1exp.files import hash_of
from r1exp.records import Problem
from r1exp.settings import Probability

MAX_OPERAND_SETS = 100_000  # enumerated in well under a second

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
OperandSet = tuple[int, ...]  # sorted

_TEMPLATES: dict[Language, tuple[str, ...]] = {
    "en": (
        "{name} has {first} {item} and gets {rest} more. How many {item} does {name} have now?",
        "{name} buys {all} {item}. How many {item} is that in total?",
        "There are {first} {item} in a box. {name} adds {rest} more. How many {item} are in the box now?",
    ),
    "zh": (
        "{name}有{first}个{item}，又得到{rest}个。{name}现在有几个{item}？",
        "{name}买了{all}个{item}。一共有几个{item}？",
        "箱子里有{first}个{item}。{name}又放进{rest}个。箱子里现在有几个{item}？",
    ),
}
NAMES: dict[Language, tuple[str, ...]] = {
    "en": ("Ada", "Ben", "Eva", "Leo", "Mia", "Sam"),
    "zh": ("小明", "小红", "小华", "小丽", "小刚", "小芳"),
}
ITEMS: dict[Language, tuple[str, ...]] = {
    "en": ("apples", "books", "coins", "eggs", "pens", "shells"),
    "zh": ("苹果", "书", "硬币", "鸡蛋", "钢笔", "贝壳"),
}
_RENDERINGS = {
    language: tuple(product(_TEMPLATES[language], NAMES[language], ITEMS[language])) for language in LANGUAGES
}
_AND: dict[Language, tuple[str, str]] = {"en": (", ", " and "), "zh": ("、", "和")}
_NUMERAL: dict[Language, Callable[[int], str]] = {"en": english, "zh": chinese}
_LINE: dict[Language, str] = {
    "en": "We add {operand} to {before} and get {after}.",
    "zh": "{before}加{operand}等于{after}。",
}


class Bilingual(Dataset):
    """Sums of `num_operands` numbers between 1 and `max_operand`, asked and worked in English or Chinese."""

    kind: Literal["bilingual"]
    seed: NonNegativeInt  # of the split and of every problem
    num_train: PositiveInt  # problems, all different
    num_test: PositiveInt  # problems, all different; half of them in each language
    num_operands: Annotated[int, Field(ge=2, le=5)]  # numbers in a sum
    max_operand: PositiveInt  # the largest number in a sum
    # Share of the operand sets that is held out for the test split.
    test_share: Annotated[float, Field(gt=0.0, lt=1.0)]
    zh_share: Probability  # share of the training questions that are Chinese
    # Share of the training problems in whose worked solution the language of each sentence is drawn at random.
    mixed_share: Probability

    @model_validator(mode="after")
    def _the_sums_can_be_written(self) -> Self:
        if self.num_operands * self.max_operand > LARGEST:
            raise ValueError(
                f"num_operands={self.num_operands} with max_operand={self.max_operand} gives sums up to "
                f"{self.num_operands * self.max_operand}, and numbers are written out up to {LARGEST}; lower dataset.max_operand"
            )
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
            if wanted > available * len(_RENDERINGS["en"]):
                raise ValueError(
                    f"num_{split}={wanted} different problems cannot be generated from {available} sets of operands "
                    f"in {len(_RENDERINGS['en'])} wordings (max_operand={self.max_operand}, "
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
        return self._first(split, self.count(split))

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
        """Return a hash of the settings, the wordings and a sample of problems; not of what decides the other split only."""
        sample = [[problem.prompt, problem.columns["solution"]] for problem in self._first(split, 16)]
        others = {"num_test"} if split == "train" else {"num_train", "zh_share", "mixed_share"}
        wordings = [_TEMPLATES, NAMES, ITEMS, _LINE]
        return hash_of([self.model_dump(exclude=others), split, wordings, sample])

    def _first(self, split: Split, num_problems: int) -> list[Problem]:
        sets = self.operand_sets(split)
        draw = random.Random(f"{split} {self.seed}")
        problems: dict[str, Problem] = {}  # by question
        while len(problems) < num_problems:
            operands = list(draw.choice(sets))
            draw.shuffle(operands)
            language = self._language(split, draw.random(), len(problems))
            question = _question(language, operands, *draw.choice(_RENDERINGS[language]))
            is_mixed = draw.random() < self.mixed_share and split == "train"
            languages = [draw.choice(LANGUAGES) for _ in operands[1:]]
            solution = worked(operands, languages if is_mixed else [language] * (len(operands) - 1))
            columns = {"solution": solution, "language": language}
            problem = Problem(f"{split}-{len(problems):05d}", question, str(sum(operands)), columns)
            problems.setdefault(question, problem)
        return list(problems.values())

    def _language(self, split: Split, number: float, position: int) -> Language:
        """Return the language of a question: in the test split, each in turn."""
        if split == "test":
            return LANGUAGES[position % 2]
        return "zh" if number < self.zh_share else "en"


def worked(operands: list[int], languages: list[Language]) -> str:
    """Return one line per partial sum, each in its language."""
    sums = pairwise(accumulate(operands))
    return "\n".join(
        _LINE[language].format(
            before=_NUMERAL[language](before),
            operand=_NUMERAL[language](operand),
            after=_NUMERAL[language](after),
        )
        for (before, after), operand, language in zip(sums, operands[1:], languages, strict=True)
    )


def all_texts() -> list[str]:
    """Return texts that contain every word, character and digit of any problem and solution."""
    texts = ["0 1 2 3 4 5 6 7 8 9"]
    for language in LANGUAGES:
        numerals = [_NUMERAL[language](number) for number in range(LARGEST + 1)]
        texts += [joined for number in numerals for joined in (number, f" {number}")]
        for template, name, item in _RENDERINGS[language]:
            texts += [
                _question(language, [3, 12, 7], template, name, item),
                worked([3, 12, 7], [language] * 2),
            ]
    return texts


def _question(language: Language, operands: list[int], template: str, name: str, item: str) -> str:
    return template.format(
        name=name,
        item=item,
        first=operands[0],
        rest=_listed(language, operands[1:]),
        all=_listed(language, operands),
    )


def _listed(language: Language, numbers: list[int]) -> str:
    """Return `3, 12 and 7`, or `3、12和7`."""
    comma, last_word = _AND[language]
    *others, last = map(str, numbers)
    return f"{comma.join(others)}{last_word}{last}" if others else last
