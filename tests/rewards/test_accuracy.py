from collections.abc import Callable, Iterator
from typing import Literal

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.accuracy import Accuracy
from r1exp.rewards.base import NO_GOLD, TIMEOUT, UNREADABLE_GOLD, Context, Score
from r1exp.rewards.committee import Committee

MakeProblem = Callable[..., Problem]
MakeCompletion = Callable[..., Completion]

NOW = Context()
TO_A_WORKER = None  # returned by `quick` where math-verify is needed


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        pytest.param("42", "42.0", 1.0, id="same number"),
        pytest.param("1,080", "$1080.00", 1.0, id="comma and dollar"),
        pytest.param("0.5", "1/2", 1.0, id="a fraction"),
        pytest.param("1000", "1e3", 1.0, id="scientific"),
        pytest.param("42", "41", 0.0, id="another number"),
        pytest.param("18", "18 dollars per day", 1.0, id="with a unit"),
        pytest.param("5", "5 million", TO_A_WORKER, id="no unit but a factor"),
        pytest.param("2", "2x", TO_A_WORKER, id="a product"),
        pytest.param("42", "forty-two", 0.0, id="no number"),
        pytest.param("0.5", "50%", TO_A_WORKER, id="per cent"),
        pytest.param("1/3", "0.333333", TO_A_WORKER, id="nearly"),
        pytest.param("1/3", "0.33", 0.0, id="not so nearly"),
        pytest.param(r"\frac{1}{2}", "0.5", TO_A_WORKER, id="LaTeX gold"),
        pytest.param("42", "4" * 5000, 0.0, id="far too long"),
        pytest.param("east", "west", UNREADABLE_GOLD, id="gold in words"),
        pytest.param("", "42", UNREADABLE_GOLD, id="empty gold"),
        pytest.param(None, "42", NO_GOLD, id="no gold"),
    ],
)
def test_numbers_are_compared_without_a_worker(
    gold: str | None, answer: str, expected: Score | None, problem: MakeProblem, answered: MakeCompletion
) -> None:
    assert Accuracy(style="think_answer").quick(problem(gold), answered(answer), NOW) == expected


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        pytest.param(r"\frac{1}{2}", "0.5", 1.0, id="fraction against decimal"),
        pytest.param(r"\frac{1}{2}", r"\dfrac{2}{4}", 1.0, id="unreduced"),
        pytest.param(r"\frac{1}{2}", r"\frac{1}{3}", 0.0, id="another fraction"),
        pytest.param("2", "2x", 0.0, id="a product is no number"),
        pytest.param("0.5", r"50\%", 1.0, id="per cent"),
        pytest.param(r"\{1,2\}", r"\{2,1\}", 1.0, id="a set"),
        pytest.param("(0,1)", "[0,1]", 0.0, id="another interval"),
        pytest.param("x^2+2x+1", "(x+1)^2", 1.0, id="an expression"),
        pytest.param(r"\sqrt{8}", r"2\sqrt{2}", 1.0, id="a root"),
        pytest.param("3", "the answer is 3 apples", 1.0, id="a sentence"),
        pytest.param("?!", "42", UNREADABLE_GOLD, id="no formula"),
    ],
)
def test_formulas_are_compared_by_math_verify(
    gold: str | None, answer: str, expected: Score | None, problem: MakeProblem, answered: MakeCompletion
) -> None:
    assert Accuracy(style="think_answer").score(problem(gold), answered(answer), NOW) == expected


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        pytest.param("style", "<answer>42</answer>", 1.0, id="style"),
        pytest.param("style", r"\boxed{42}", 0.0, id="style, not there"),
        pytest.param("boxed", r"\boxed{42}", 1.0, id="boxed"),
        pytest.param("last_number", "41? no, 42", 1.0, id="last number"),
        pytest.param("style_or_last_number", "41? no, 42", 1.0, id="last number, no tag"),
        pytest.param("style_or_last_number", "<answer>41</answer> 42", 0.0, id="the tag comes first"),
    ],
)
def test_read_decides_where_the_answer_is_read(
    read: Literal["style", "boxed", "last_number", "style_or_last_number"],
    text: str,
    expected: Score | None,
    problem: MakeProblem,
    completion: MakeCompletion,
) -> None:
    assert Accuracy(style="think_answer", read=read).quick(problem("42"), completion(text), NOW) == expected


@pytest.mark.parametrize(("answer", "expected"), [("East", 1.0), ("west", 0.0)])
def test_gold_in_words_can_be_compared_as_text(
    answer: str, expected: Score | None, problem: MakeProblem, answered: MakeCompletion
) -> None:
    reward = Accuracy(style="think_answer", unreadable_gold="text")
    assert reward.quick(problem("east"), answered(answer), NOW) == expected


@pytest.fixture
def committee() -> Iterator[Committee]:
    committee = Committee({"right": Accuracy(style="boxed", deadline=2.0)}, num_workers=2)
    yield committee
    committee.close()


def test_a_comparison_that_math_verify_does_not_finish_ends_at_the_deadline(committee: Committee) -> None:
    answers = [r"\frac{1}{2}", "9^{9^{9^{9^{9}}}}!", "0.5", r"\int_0^1 x^{x^{x}} dx"]
    problems = [Problem("a", "a", r"\frac{1}{2}") for _ in answers]
    completions = [Completion(rf"\boxed{{{answer}}}", 9) for answer in answers]
    scores = committee.score(problems, completions, NOW)["right"]
    assert (scores[0], scores[2]) == (1.0, 1.0)
    assert scores[1] == TIMEOUT or scores[1] == 0.0 or "memory" in str(scores[1])
