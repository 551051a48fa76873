"""Copies of evaluated questions: whole, near, by one n-gram; and templates, which are no copies."""

from collections import Counter
from typing import Any

import pytest

from r1exp.filtering.contamination import EvaluatedQuestions, templates_of

BAKER = (
    "Olga bakes 24 muffins every morning and sells them at the market for $2 each. On Sunday she bakes twice as many. "
    "How much money does she earn in a week?"
)
TRAIN = "A train leaves the station at noon and drives 80 miles an hour. How far from the station is it after 5 hours?"
SHORT = "What is 17 times 23?"


def index(*questions: str, **changes: Any) -> EvaluatedQuestions:
    settings: dict[str, Any] = {"similarity": 0.65, "ngram": 4, "whole_below": 8, "shared_ngram": None}
    found = EvaluatedQuestions(**settings | changes)
    for question in questions:
        found.add(question)
    found.finish()
    return found


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param(TRAIN, (1, "whole"), id="the question itself"),
        pytest.param(TRAIN.upper(), (1, "whole"), id="in capitals"),
        pytest.param(BAKER.replace("Olga", "Bruno").replace("24", "thirty-six"), (0, "near"), id="other numbers and names"),
        pytest.param("How far from the station is it after 9 hours? A train leaves the station at noon and drives 65 miles an hour.", (1, "near"), id="another order"),
        pytest.param("what is 17 times 23", (2, "whole"), id="a short question"),
        pytest.param("Please tell me: what is 17 times 23? Explain.", (2, "whole"), id="a short question inside of a row"),
        pytest.param("What is 17 times 24?", None, id="a short question with another number"),
        pytest.param("Hello, world", (3, "whole"), id="two words alone"),
        pytest.param("Write a program that prints hello world.", None, id="two words inside of a row"),
        pytest.param("A train drives 80 miles an hour. Which color is it, if the station is painted like the train and the train is red?", None, id="another question about a train"),
        pytest.param("???", None, id="no words"),
    ],
)  # fmt: skip
def test_a_row_is_a_copy_of_the_question(row: str, expected: tuple[int, str] | None) -> None:
    found = index(BAKER, TRAIN, SHORT, "Hello world").find(row)
    assert (None if found is None else (found.question, found.how)) == expected


def test_a_long_question_is_found_inside_of_a_longer_row() -> None:
    story = " ".join(f"In the {word} garden grow many plants that nobody counts." for word in "abcdefghijk")
    found = index(BAKER, TRAIN).find(f"{story} {BAKER.replace('Olga', 'Bruno')} {story}")
    assert found is not None
    assert found.question == 0


def test_one_shared_n_gram_counts_where_it_is_asked_for() -> None:
    row = "Nobody knows where the train leaves the station at noon and drives home, but I do."
    assert index(TRAIN).find(row) is None
    found = index(TRAIN, shared_ngram=8).find(row)
    assert found is not None
    assert found.how == "ngram"
    assert index(TRAIN, shared_ngram=13).find(row) is None


def test_a_form_that_three_questions_share_is_a_template_whose_numbers_count() -> None:
    sums = [
        f"Ann has {n} pens and gets {m} and 7 more. How many pens does Ann have now?"
        for n, m in ((1, 2), (3, 4), (5, 6))
    ]
    two, three = index(*sums[:2], BAKER), index(*sums, BAKER)
    row = "Ben has 8 pens and gets 9 and 2 more. How many pens does Ben have now?"
    assert two.find(row) is not None
    assert three.find(row) is None
    assert three.find(sums[0]) is not None
    assert (two.num_templates, three.num_templates) == (0, 3)


def test_what_many_questions_share_weighs_nothing() -> None:
    task = "Answer the following question and put the final answer into a box at the very end of your reply. "
    questions = [
        f"{task}Which of the {word}s lives longest, if all others move away?" for word in "abcdefghijklmnop"
    ]
    assert index(*questions).find(f"{task}Name the capital of France.") is None


def test_a_question_that_very_many_rows_are_near_copies_of_is_a_template() -> None:
    assert templates_of(Counter({4: 21, 5: 20}), 100) == {4}
    assert templates_of(Counter({4: 21, 5: 101}), 10_000) == {5}


def test_without_similarity_only_whole_copies_count() -> None:
    found = index(BAKER, similarity=None)
    assert found.find(BAKER.replace("24", "25")) is None
    assert found.find(BAKER) is not None
