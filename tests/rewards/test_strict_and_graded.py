from collections.abc import Callable

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, Context
from r1exp.rewards.graded import Graded
from r1exp.rewards.strict import Strict

MakeProblem = Callable[..., Problem]
MakeCompletion = Callable[..., Completion]

NOW = Context()


@pytest.mark.parametrize(
    ("text", "strict", "graded"),
    [
        pytest.param("<think>6x7</think><answer>42</answer>", 2.0, 2.0, id="exact text"),
        pytest.param("<answer> 42 </answer>", 2.0, 2.0, id="blanks around"),
        pytest.param("<answer>42.0</answer>", 0.0, 1.5, id="same number"),
        pytest.param("<answer>41</answer>", 0.0, 0.0, id="wrong"),
        pytest.param("<answer></answer>", 0.0, 0.0, id="empty tag"),
        pytest.param("it is 7, no: 42", 2.0, 2.0, id="no tag, last number"),
        pytest.param("42 or rather 41", 0.0, 0.0, id="no tag, right number not last"),
        pytest.param("<think>42</think><answer>41</answer>", 0.0, 0.0, id="right number in the reasoning"),
        pytest.param("", 0.0, 0.0, id="nothing"),
    ],
)
def test_the_score_depends_on_how_exactly_the_answer_is_written(
    text: str, strict: float, graded: float, problem: MakeProblem, completion: MakeCompletion
) -> None:
    assert Strict(style="think_answer").score(problem("42"), completion(text), NOW) == strict
    assert Graded(style="think_answer").score(problem("42"), completion(text), NOW) == graded


def test_blanks_around_gold_do_not_matter(problem: MakeProblem, answered: MakeCompletion) -> None:
    assert Strict(style="think_answer").score(problem(" 42\n"), answered("42"), NOW) == 2.0
    assert Graded(style="think_answer").score(problem(" 42\n"), answered("42"), NOW) == 2.0


def test_points_are_settings(problem: MakeProblem, answered: MakeCompletion) -> None:
    assert Strict(style="think_answer", points=5.0).score(problem("42"), answered("42"), NOW) == 5.0
    graded = Graded(style="think_answer", exact=1.0, equal=0.25)
    assert [graded.score(problem("42"), answered(text), NOW) for text in ("42", "42.0")] == [1.0, 0.25]


@pytest.mark.parametrize("reward", [Strict(style="plain"), Graded(style="plain")], ids=["strict", "graded"])
def test_a_problem_without_gold_is_not_scored_as_wrong(
    reward: Strict | Graded, problem: MakeProblem, completion: MakeCompletion
) -> None:
    assert reward.score(problem(None), completion("42"), NOW) == NO_GOLD


def test_the_gold_text_must_score_at_least_as_much_as_the_same_number() -> None:
    with pytest.raises(ValueError, match=r"equal=3.0 must not exceed exact=2.0"):
        Graded(style="plain", equal=3.0)
