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

import random
from collections.abc import Callable
from itertools import accumulate, pairwise, product
from typing import Literal, Self

from pydantic import model_validator

from r1exp.dataset.base import Split
from r1exp.dataset.numerals import LARGEST, chinese, english
from r1exp.dataset.sums import Sums
from r1exp.files import hash_of
from r1exp.records import Problem
from r1exp.settings import Probability

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

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


class Bilingual(Sums):
    """Sums of `num_operands` numbers between 1 and `max_operand`, asked and worked in English or Chinese.

    Half of the test problems are in each language.
    """

    kind: Literal["bilingual"]
    zh_share: Probability  # share of the training questions that are Chinese
    # Share of the training problems in whose worked solution the language of each sentence is drawn at random.
    mixed_share: Probability

    num_wordings = len(_RENDERINGS["en"])

    @model_validator(mode="after")
    def _the_sums_can_be_written(self) -> Self:
        if self.num_operands * self.max_operand > LARGEST:
            raise ValueError(
                f"num_operands={self.num_operands} with max_operand={self.max_operand} gives sums up to "
                f"{self.num_operands * self.max_operand}, and numbers are written out up to {LARGEST}; lower dataset.max_operand"
            )
        return self

    def fingerprint_of(self, split: Split) -> str:
        """Return a hash of the settings, the wordings and a sample of problems; not of what decides the other split only."""
        sample = [[problem.prompt, problem.columns["solution"]] for problem in self.generated(split, 16)]
        others = {"num_test"} if split == "train" else {"num_train", "zh_share", "mixed_share"}
        wordings = [_TEMPLATES, NAMES, ITEMS, _LINE]
        return hash_of([self.model_dump(exclude=others), split, wordings, sample])

    def generated(self, split: Split, num_problems: int) -> list[Problem]:
        """Return that many problems of one split; a smaller number gives the first ones of a larger."""
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
