"""Multiple-choice answers: forms of the gold answer, and of the answer."""

import time
from typing import Any

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, UNREADABLE_GOLD, Context
from r1exp.rewards.choice import AMBIGUOUS_GOLD, UNREADABLE_OPTIONS, Choice

NOW = Context()
CITIES = ["Rome", "Oslo", "Paris", "New York"]


def score(answer: str, answer_is: str | None = "C", options: Any = CITIES, **settings: Any) -> Any:
    reward = Choice(style="think_answer", **{"options": "options", **settings})
    text = answer if settings.get("read") == "whole" else f"<think>x</think><answer>{answer}</answer>"
    return reward.score(Problem("p", "?", answer_is, {"options": options}), Completion(text, 5), NOW)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        *[(text, 1.0) for text in ("C", "(C)", "C.", "c)", "**C**", r"\boxed{C}", r"\text{(C)}", "The answer is C.")],
        *[(text, 1.0) for text in ("Paris", "paris.", "C) Paris", "(C) Paris", "答案是C", "Option C")],
        *[(text, 0.0) for text in ("B", "Oslo", "A or C", "C, D", "not C", "E", "", "Paris or Rome", "C) Oslo")],
        ("Rome Oslo Paris New York", 0.0),
    ],
)  # fmt: skip
def test_an_answer_is_a_letter_or_the_text_of_an_option(answer: str, expected: float) -> None:
    assert score(answer) == expected


@pytest.mark.parametrize("gold", ["C", "(C)", "Paris", "paris", "2"])
@pytest.mark.parametrize(
    "options",
    [
        CITIES,
        {"label": ["A", "B", "C", "D"], "text": CITIES},
        {"A": "Rome", "B": "Oslo", "C": "Paris", "D": "New York", "E": None},
    ],
)
def test_gold_is_a_letter_a_text_or_an_index(gold: str, options: Any) -> None:
    assert (score("C", gold, options), score("D", gold, options)) == (1.0, 0.0)


def test_letters_are_enough_without_options() -> None:
    reward = Choice(style="think_answer")
    problem = Problem("p", "?", "C")
    answers = ("<answer>(C)</answer>", "<answer>B</answer>", "<answer>Paris</answer>")
    assert [reward.score(problem, Completion(text, 5), NOW) for text in answers] == [1.0, 0.0, 0.0]


def test_the_text_of_an_option_that_ends_in_a_letter_is_a_text() -> None:
    options = ["vitamin B", "vitamin C", "vitamin A", "none"]
    assert score("Vitamin C", "B", options) == 1.0
    assert score("Vitamin C", "C", options) == 0.0


@pytest.mark.parametrize(
    ("gold", "options", "settings", "expected"),
    [
        pytest.param(None, CITIES, {}, NO_GOLD, id="no gold"),
        pytest.param("London", CITIES, {}, UNREADABLE_GOLD, id="no option"),
        pytest.param("1", ["2", "3", "1"], {}, AMBIGUOUS_GOLD, id="a text or an index"),
        pytest.param("C", None, {}, UNREADABLE_OPTIONS, id="no options"),
        pytest.param("C", ["Rome"], {}, UNREADABLE_OPTIONS, id="one option"),
        pytest.param("1", ["2", "3", "1"], {"gold": "text"}, 1.0, id="the text, as the settings say"),
        pytest.param("3", CITIES, {"gold": "index", "first_index": 1}, 1.0, id="an index from 1"),
    ],
)
def test_what_gold_is_must_be_clear(gold: str | None, options: Any, settings: Any, expected: Any) -> None:
    assert score("C", gold, options, **settings) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("A is too far south.\nThe correct answer is (C).", 1.0),
        ("Answer: A\nNo, wait.\nAnswer: C", 1.0),
        ("<think>A?</think>\nC", 1.0),
        ("It may be C.\nAnswer: A or C", 0.0),
    ],
)
def test_a_whole_reply_is_read_where_it_states_its_answer(reply: str, expected: float) -> None:
    assert score(reply, read="whole") == expected


@pytest.mark.parametrize("text", ["A or " * 4000, "(" * 20_000, "answer" * 3000, "answer: " * 2500])
def test_pathological_answers_are_wrong_quickly(text: str) -> None:
    begin = time.process_time()
    assert score(text) == 0.0
    assert score(text, read="whole") == 0.0
    assert time.process_time() - begin < 1.0
