"""L1's two rewards, with numbers computed by hand from its equations."""

from collections.abc import Callable
from typing import Any, Literal

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.base import TIMEOUT, Context
from r1exp.rewards.committee import Committee
from r1exp.rewards.lengths import KimiLength, SoftOverlongPunishment
from r1exp.rewards.strict import Strict
from r1exp.rewards.target_length import NO_TARGET, TargetLength

NOW = Context()
MakeProblem = Callable[..., Problem]
MakeCompletion = Callable[..., Completion]


@pytest.mark.parametrize(
    ("form", "num_tokens", "right", "expected"),
    [
        pytest.param("exact", 1000, True, 1.0, id="exact: right and of the length"),
        pytest.param("exact", 2000, True, 0.7, id="exact: 1,000 tokens too long"),
        pytest.param("exact", 500, True, 0.85, id="exact: 500 tokens too short"),
        pytest.param("exact", 1000, False, 0.0, id="exact: wrong and of the length"),
        pytest.param("exact", 2000, False, -0.3, id="exact: wrong and too long"),
        pytest.param("max", 1000, True, 0.5, id="max: right at the target"),
        pytest.param("max", 0, True, 0.8, id="max: right far below it"),
        pytest.param("max", 3000, True, 0.0, id="max: right far above it"),
        pytest.param("max", 1000, False, 0.0, id="max: wrong"),
    ],
)
def test_the_score_follows_the_equations_with_the_papers_alpha_and_delta(
    form: Literal["exact", "max"], num_tokens: int, right: bool, expected: float, completion: MakeCompletion
) -> None:
    reward = TargetLength(form=form, target=1000, judged_by="right", max_length=4000)
    assert reward.score_judged([completion(num_tokens=num_tokens)], [right], NOW) == [pytest.approx(expected)]


@pytest.mark.parametrize("target", [None, 0, -5, True, "long"])
def test_a_row_without_a_target_abstains(
    target: object, problem: MakeProblem, completion: MakeCompletion
) -> None:
    reward = TargetLength(column="target_length", judged_by="right", max_length=100)
    given = problem("42", target_length=target)
    assert reward.score_problem(given, [completion()], [True], NOW) == [NO_TARGET]


def test_the_committee_gives_it_the_row_and_the_verdicts(
    problem: MakeProblem, completion: MakeCompletion
) -> None:
    short = TargetLength(column="n", judged_by="right", max_length=100, alpha=0.01)
    committee = Committee({"short": short, "right": Strict(style="plain", weight=0.0)})
    group = [completion("#### 42", num_tokens=20), completion("#### 41", num_tokens=30)]
    scores = committee.score([problem("42", n=30)] * 2, group, NOW)["short"]
    assert scores == [pytest.approx(0.9), 0.0]
    assert short.score_judged([completion()], [TIMEOUT], NOW) == [NO_TARGET]


def test_targets_come_from_one_place() -> None:
    wrong: list[dict[str, Any]] = [{}, {"column": "n", "target": 5}]
    for settings in wrong:
        with pytest.raises(ValueError, match="one of the two"):
            TargetLength(judged_by="right", max_length=100, **settings)


def test_kimis_length_reward_begins_at_its_step(completion: MakeCompletion) -> None:
    reward = KimiLength(judged_by="right", from_step=10)
    group = [completion(num_tokens=tokens) for tokens in (100, 200)]
    assert reward.score_judged(group, [True, True], Context(step=9)) == [0.0, 0.0]
    assert reward.score_judged(group, [True, True], Context(step=10)) == [0.5, -0.5]


@pytest.mark.parametrize(
    ("num_tokens", "expected"), [(16_384, 0.0), (18_432, -0.5), (20_480, -1.0), (20_481, -1.0)]
)
def test_dapos_punishment_with_the_papers_numbers(
    num_tokens: int, expected: float, problem: MakeProblem, completion: MakeCompletion
) -> None:
    reward = SoftOverlongPunishment(l_max=20_480, l_cache=4_096)
    assert reward.score(problem(), completion(num_tokens=num_tokens), NOW) == pytest.approx(expected)


def test_a_cache_as_long_as_the_maximum_is_refused() -> None:
    with pytest.raises(ValueError, match="lower l_cache"):
        SoftOverlongPunishment(l_max=10, l_cache=10)
