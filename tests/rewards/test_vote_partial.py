import math
from collections.abc import Callable
from typing import Any

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.base import NO_GOLD, NO_LOGPROBS, Context
from r1exp.rewards.vote_partial import VotePartial

MakeProblem = Callable[..., Problem]
MakeCompletion = Callable[..., Completion]

NOW = Context()
# The worked example of [gemma-grpo]: 42 and 41 three times each.
EXAMPLE = ["42", "41", "42", "43", "41", "42", "40", "41"]


def vote(**settings: Any) -> VotePartial:
    return VotePartial(style="think_answer", **settings)


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        pytest.param("42", 2.0, id="the vote is exact"),
        pytest.param("41", 1.0, id="the vote is off by one"),
        pytest.param("39", 0.0, id="the vote is far off"),
    ],
)
def test_the_shared_vote_gives_the_worked_example_of_the_source(
    gold: str, expected: float, problem: MakeProblem, answered: MakeCompletion
) -> None:
    group = [answered(number) for number in EXAMPLE]
    assert vote(scope="group_shared").score_group(problem(gold), group, NOW) == [expected] * 8


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        # half of the own credit, plus half of the vote's where the own answer is the vote (42)
        pytest.param("42", [2.0, 0.5, 2.0, 0.5, 0.5, 2.0, 0.0, 0.5], id="gold 42"),
        pytest.param("41", [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.5, 1.0], id="gold 41"),
        pytest.param("39", [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0], id="gold 39"),
    ],
)
def test_the_scores_of_a_group_vote_differ_between_completions(
    gold: str, expected: list[float], problem: MakeProblem, answered: MakeCompletion
) -> None:
    group = [answered(number) for number in EXAMPLE]
    assert vote(scope="group").score_group(problem(gold), group, NOW) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("<answer>42</answer>", 2.0, id="exact"),
        pytest.param("<answer>$41</answer>", 1.0, id="off by one, with a sign"),
        pytest.param("<answer>40</answer>", 0.0, id="off by two"),
        pytest.param("<answer>41.5</answer>", 0.0, id="no integer"),
        pytest.param(
            "<answer>41</answer><answer>42</answer><answer>42</answer>", 2.0, id="the vote of its answers"
        ),
        pytest.param("the answer is 42", 0.0, id="no tag"),
        pytest.param("<answer>many</answer>", 0.0, id="no number"),
    ],
)
def test_with_scope_completion_only_its_own_answers_vote(
    text: str, expected: float, problem: MakeProblem, completion: MakeCompletion
) -> None:
    assert vote().score(problem("42"), completion(text), NOW) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"tolerance": 3}, [2.0, 1.0, 1.0, 1.0, 0.0], id="wider step"),
        pytest.param({"shape": "linear"}, [2.0, 1.0, 0.0, 0.0, 0.0], id="max(0, 2 - distance)"),
        pytest.param(
            {"shape": "linear", "tolerance": 3}, [2.0, 1.5, 1.0, 0.5, 0.0], id="linear to tolerance + 1"
        ),
        pytest.param({"tolerance": 0}, [2.0, 0.0, 0.0, 0.0, 0.0], id="exact only"),
    ],
)
def test_credit_decreases_with_the_distance(
    settings: dict[str, Any], expected: list[float], problem: MakeProblem, answered: MakeCompletion
) -> None:
    reward = vote(**settings)
    scores = [reward.score(problem("42"), answered(str(42 - d)), NOW) for d in range(5)]
    assert scores == expected


@pytest.mark.parametrize(
    ("ties", "credit"),
    [
        pytest.param("first", 2.0, id="first: 42 was given first"),
        pytest.param("zero", 0.0, id="zero"),
        pytest.param("mean", 1.5, id="mean of 2 for 42 and 1 for 41"),
    ],
)
def test_ties_decides_the_credit_of_a_tied_vote(
    ties: str, credit: float, problem: MakeProblem, answered: MakeCompletion
) -> None:
    group = [answered(number) for number in EXAMPLE]
    assert vote(scope="group_shared", ties=ties).score_group(problem("42"), group, NOW) == [credit] * 8


def test_the_mean_of_a_tied_vote_goes_to_all_completions_with_a_tied_answer(
    problem: MakeProblem, answered: MakeCompletion
) -> None:
    group = [answered(number) for number in EXAMPLE]
    scores = vote(scope="group", ties="mean").score_group(problem("42"), group, NOW)
    assert scores[:4] == [1.75, 1.25, 1.75, 0.5]  # 2/2 + 1.5/2, 1/2 + 1.5/2, ..., 1/2


def test_ties_does_not_change_a_vote_without_a_tie(problem: MakeProblem, answered: MakeCompletion) -> None:
    group = [answered(number) for number in ("42", "42", "41")]
    for ties in ("first", "zero", "mean"):
        assert vote(scope="group_shared", ties=ties).score_group(problem("42"), group, NOW) == [2.0] * 3


def test_a_completion_votes_with_its_last_answer(
    problem: MakeProblem, answered: MakeCompletion, completion: MakeCompletion
) -> None:
    group = [completion("<answer>41</answer><answer>42</answer>"), answered("42"), answered("7")]
    assert vote(scope="group").score_group(problem("42"), group, NOW) == [2.0, 2.0, 0.0]


def test_a_vote_needs_min_votes_equal_answers(problem: MakeProblem, answered: MakeCompletion) -> None:
    group = [answered(number) for number in EXAMPLE]
    three, four = (vote(scope="group_shared", min_votes=votes) for votes in (3, 4))
    assert three.score_group(problem("42"), group, NOW)[0] == 2.0
    assert four.score_group(problem("42"), group, NOW)[0] == 0.0


def test_the_format_gate_ignores_answers_outside_the_template(
    problem: MakeProblem, answered: MakeCompletion, completion: MakeCompletion
) -> None:
    group = [answered("42"), completion("<answer>40</answer>"), completion("<answer>40</answer>")]
    assert vote(scope="group_shared").score_group(problem("42"), group, NOW) == [0.0] * 3
    assert vote(scope="group_shared", format_gate=True).score_group(problem("42"), group, NOW) == [2.0] * 3


def test_confidence_weights_a_vote_by_its_probability(problem: MakeProblem, answered: MakeCompletion) -> None:
    sure, unsure = (math.log(0.9),), (math.log(0.4), math.log(0.4))
    group = [answered("40", unsure), answered("42", sure), answered("40", unsure)]  # 0.8 against 0.9
    assert vote(scope="group_shared").score_group(problem("42"), group, NOW) == [0.0] * 3
    assert vote(scope="group_shared", confidence=True).score_group(problem("42"), group, NOW) == [2.0] * 3


def test_confidence_does_not_depend_on_the_length(problem: MakeProblem, answered: MakeCompletion) -> None:
    group = [answered("40", (-0.3,)), answered("42", (-0.1,) * 4)]  # 0.74 against 0.90, unnormalized 0.67
    assert vote(scope="group_shared", confidence=True).score_group(problem("42"), group, NOW) == [2.0] * 2


def test_confidence_without_log_probabilities_abstains(
    problem: MakeProblem, answered: MakeCompletion
) -> None:
    reward = vote(scope="group", confidence=True)
    assert reward.score_group(problem("42"), [answered("42")], NOW) == [NO_LOGPROBS]


@pytest.mark.parametrize(("step", "expected"), [(100, 1.0), (101, 0.0)])
def test_partial_credit_can_end_at_an_optimizer_step(
    step: int, expected: float, problem: MakeProblem, answered: MakeCompletion
) -> None:
    reward = vote(partial_until_step=100)
    assert reward.score(problem("42"), answered("41"), Context(step=step)) == expected
    assert reward.score(problem("42"), answered("42"), Context(step=step)) == 2.0


def test_a_problem_without_gold_abstains(problem: MakeProblem, answered: MakeCompletion) -> None:
    assert vote().score(problem(None), answered("42"), NOW) == NO_GOLD


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"near=3.0 must not exceed exact=2.0"):
        vote(near=3.0)
    with pytest.raises(ValueError, match="use scope=group, or confidence=false"):
        vote(confidence=True)
