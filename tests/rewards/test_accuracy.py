from collections.abc import Callable, Iterator

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.accuracy import Accuracy
from r1exp.rewards.answer_reward import Place
from r1exp.rewards.base import NO_GOLD, UNREADABLE_GOLD, Context, Score
from r1exp.rewards.committee import Committee
from r1exp.rewards.graded import Graded

MakeProblem = Callable[..., Problem]
MakeCompletion = Callable[..., Completion]

NOW = Context()


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        pytest.param("42", "42.0", 1.0, id="same number"),
        pytest.param("42", "41", 0.0, id="another number"),
        pytest.param("18", "18 dollars per day", 1.0, id="with a unit"),
        pytest.param("42", "4" * 5000, 0.0, id="far too long"),
        pytest.param("42", "9^{9^{9^{9}}}", 0.0, id="no machine can compute it"),
        pytest.param("42", "(1+x)^{10000}", 0.0, id="too many terms"),
        pytest.param("42", "not 42", 0.0, id="denied"),
        pytest.param("42", "41 or 42", 0.0, id="a hedge"),
        pytest.param(r"\text{Evelyn}", "evelyn", 1.0, id="gold in words"),
        pytest.param("?!", "42", UNREADABLE_GOLD, id="no formula"),
        pytest.param("", "42", UNREADABLE_GOLD, id="empty gold"),
        pytest.param(None, "42", NO_GOLD, id="no gold"),
    ],
)
def test_the_judgement_becomes_a_score(
    gold: str | None, answer: str, expected: Score, problem: MakeProblem, answered: MakeCompletion
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
        pytest.param("style_then_last_number", "<answer>41</answer> 42", 1.0, id="the last number again"),
        pytest.param("style_then_last_number", "<answer>42</answer> 41", 1.0, id="the tag is right"),
    ],
)
def test_read_decides_where_the_answer_is_read(
    read: Place, text: str, expected: Score | None, problem: MakeProblem, completion: MakeCompletion
) -> None:
    assert Accuracy(style="think_answer", read=read).score(problem("42"), completion(text), NOW) == expected


def test_what_gold_answers_are_can_be_said(problem: MakeProblem, answered: MakeCompletion) -> None:
    reward = Accuracy(style="think_answer", answers="text")
    assert reward.score(problem("p - q"), answered("-q + p"), NOW) == 0.0
    assert reward.score(problem("p - q", answer_kind="auto"), answered("-q + p"), NOW) == 1.0
    assert "answers" not in Accuracy(style="think_answer").model_dump()


@pytest.mark.parametrize(("answer", "expected"), [("=?", 1.0), ("42", 0.0)])
def test_an_unreadable_gold_answer_can_be_compared_as_text(
    answer: str, expected: Score | None, problem: MakeProblem, answered: MakeCompletion
) -> None:
    reward = Accuracy(style="think_answer", unreadable_gold="text")
    assert reward.score(problem("=?"), answered(answer), NOW) == expected


@pytest.fixture
def committee() -> Iterator[Committee]:
    members = {"right": Accuracy(style="boxed", deadline=2.0), "graded": Graded(style="boxed")}
    committee = Committee(members, num_workers=2)
    yield committee
    committee.close()


def test_a_comparison_that_math_verify_does_not_finish_is_wrong(committee: Committee) -> None:
    answers = [
        r"\frac{1}{2}",
        r"\int_0^1 x^{x^{x^{x}}} \sin(x^x) dx",
        "0.5",
        r"\frac{\sin^2 x + \cos^2 x}{2}",
    ]
    problems = [Problem("a", "a", r"\frac{1}{2}") for _ in answers]
    completions = [Completion(rf"\boxed{{{answer}}}", 9) for answer in answers]
    scores = committee.score(problems, completions, NOW)
    assert scores["right"] == [1.0, 0.0, 1.0, 1.0]
    assert scores["graded"] == [2.0, 0.0, 1.5, 1.5]
