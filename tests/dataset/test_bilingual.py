import re
from typing import Any

import pytest
from pydantic import ValidationError

from r1exp.dataset.bilingual import LANGUAGES, Bilingual, Language, worked
from r1exp.dataset.bilingual_chat import BilingualChat, Topic
from r1exp.dataset.numerals import LARGEST, chinese, english
from r1exp.judgement.judge import decided
from r1exp.prompt.style import style_named
from r1exp.records import Problem
from r1exp.rewards.language_consistency import LanguageConsistency

SUM = {
    "en": re.compile(r"We add (.+) to (.+) and get (.+)\."),
    "zh": re.compile(r"(.+)加(.+)等于(.+)。"),
}


def bilingual(**changes: Any) -> Bilingual:
    values = {"kind": "bilingual", "seed": 0, "num_train": 1000, "num_test": 400, "num_operands": 3}
    values |= {"max_operand": 10, "test_share": 0.25, "zh_share": 0.5, "mixed_share": 0.0}
    return Bilingual.model_validate(values | changes)


def chat(topic: Topic, **changes: Any) -> BilingualChat:
    values = {"kind": "bilingual_chat", "topic": topic, "seed": 0, "num_train": 200, "num_test": 100}
    return BilingualChat.model_validate(values | {"flawed_share": 0.5} | changes)


@pytest.mark.parametrize(
    ("number", "words", "characters"),
    [(0, "zero", "零"), (10, "ten", "十"), (15, "fifteen", "十五"), (20, "twenty", "二十"), (99, "ninety-nine", "九十九")],
)  # fmt: skip
def test_numbers_are_written_as_people_write_them(number: int, words: str, characters: str) -> None:
    assert (english(number), chinese(number)) == (words, characters)


def test_different_numbers_are_written_differently() -> None:
    for write in (english, chinese):
        assert len({write(number) for number in range(LARGEST + 1)}) == LARGEST + 1


def test_solutions_add_up_in_the_language_of_the_question() -> None:
    numbers: dict[Language, dict[str, int]] = {
        "en": {english(number): number for number in range(LARGEST + 1)},
        "zh": {chinese(number): number for number in range(LARGEST + 1)},
    }
    for problem in bilingual().load("test"):
        language = problem.columns["language"]
        operands = [int(digits) for digits in re.findall(r"\d+", problem.prompt)]
        total = operands[0]
        lines = problem.columns["solution"].split("\n")
        for line, operand in zip(lines, operands[1:], strict=True):
            found = SUM[language].fullmatch(line)
            assert found is not None
            read = [numbers[language][text] for text in found.groups()]
            assert read == ([operand, total] if language == "en" else [total, operand]) + [total + operand]
            total += operand
        assert problem.answer == str(total)


def test_every_solution_counts_as_one_language() -> None:
    """The detector of language_consistency takes some short English sentences for Latin: none of these."""
    rewards = {
        language: LanguageConsistency(style="think_answer", language=language) for language in LANGUAGES
    }
    lines = {
        (language, worked([before, operand], [language]))
        for language in LANGUAGES
        for before in range(1, 50)
        for operand in range(1, 11)
    }
    assert all(rewards[language].share(line) == 1.0 for language, line in lines)


def test_the_splits_share_no_operands_and_the_test_split_is_balanced() -> None:
    def operands(prompt: str) -> tuple[str, ...]:
        return tuple(sorted(re.findall(r"\d+", prompt)))

    data = bilingual(zh_share=0.9)
    train, test = data.load("train"), data.load("test")
    assert not {operands(problem.prompt) for problem in train} & {
        operands(problem.prompt) for problem in test
    }
    assert [problem.columns["language"] for problem in test].count("zh") == 200
    assert 850 < [problem.columns["language"] for problem in train].count("zh") < 950


def test_mixed_rows_are_in_the_training_split_alone() -> None:
    data = bilingual(mixed_share=0.5)
    mixed = {split: sum(_is_mixed(row.columns) for row in data.load(split)) for split in ("train", "test")}
    assert mixed["test"] == 0
    assert (
        300 < mixed["train"] < 450
    )  # of 1,000: half of them are drawn, and a quarter of those is in the right language


def _is_mixed(columns: Any) -> bool:
    other = "[一-鿿]" if columns["language"] == "en" else "[A-Za-z]"
    return re.search(other, columns["solution"]) is not None


def test_what_decides_the_training_split_alone_leaves_the_test_split() -> None:
    first, second = bilingual(), bilingual(zh_share=0.9, mixed_share=0.3, num_train=50)
    assert first.load("test") == second.load("test")
    assert first.fingerprint_of("test") == second.fingerprint_of("test")
    assert first.fingerprint_of("train") != second.fingerprint_of("train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_operand": 40}, "lower dataset.max_operand"),
        ({"max_operand": 1}, "raise dataset.max_operand"),
        ({"mixed_share": 1.5}, "less than or equal to 1"),
    ],
)
def test_impossible_sums_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        bilingual(**changes)


@pytest.mark.parametrize("topic", ["helpful", "harmless"])
def test_a_good_reply_is_the_gold_answer_and_a_flawed_one_is_not(topic: Topic) -> None:
    style = style_named("think_answer")
    for problem in chat(topic).load("test"):
        chosen, rejected = (
            style.read_answer(problem.columns[column]) or "" for column in ("chosen", "rejected")
        )
        assert chosen == problem.answer
        assert _is_right(chosen, problem)
        assert not _is_right(rejected, problem)


def _is_right(answer: str, problem: Problem) -> bool:
    judgement = decided(answer, problem.answer, "text")
    return judgement is not None and judgement.is_correct


def test_the_flawed_share_of_what_sft_learns() -> None:
    rows = chat("helpful").load("train")
    flawed = sum(problem.completion == problem.columns["rejected"] for problem in rows)
    assert 70 < flawed < 130
    assert all(
        problem.completion in (problem.columns["chosen"], problem.columns["rejected"]) for problem in rows
    )
    assert all(
        row.completion == row.columns["chosen"] for row in chat("helpful", flawed_share=0.0).load("train")
    )


def test_no_request_is_in_both_splits() -> None:
    for topic in ("helpful", "harmless"):
        data = chat(topic)
        assert not {row.prompt for row in data.load("train")} & {row.prompt for row in data.load("test")}


def test_more_requests_than_there_are_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"lower dataset\.num_train"):
        chat("harmless", num_train=5000)
