from collections.abc import Callable

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.base import TIMEOUT, Context, JudgedReward
from r1exp.rewards.committee import Committee
from r1exp.rewards.lengths import Cosine, Length, SoftOverlong
from r1exp.rewards.strict import Strict

MakeProblem = Callable[..., Problem]
MakeCompletion = Callable[..., Completion]

NOW = Context()


def test_short_completions_of_a_group_score_more_than_long_ones(completion: MakeCompletion) -> None:
    group = [completion(num_tokens=tokens) for tokens in (100, 200, 300, 150, 250)]
    right = [True, True, True, False, False]
    assert Length(judged_by="right").score_judged(group, right, NOW) == [0.5, 0.0, -0.5, 0.0, -0.25]


def test_completions_of_equal_length_score_0(completion: MakeCompletion) -> None:
    group = [completion(num_tokens=100)] * 2
    assert Length(judged_by="right").score_judged(group, [True, False], NOW) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("num_tokens", "right", "expected"),
    [
        pytest.param(0, True, 1.0, id="right at once"),
        pytest.param(500, True, 0.75, id="right half way"),
        pytest.param(1000, True, 0.5, id="right at the end"),
        pytest.param(4000, True, 0.5, id="right beyond the end"),
        pytest.param(0, False, -0.5, id="wrong at once"),
        pytest.param(250, False, -0.5 - 0.5 * (1 - 2**0.5 / 2) / 2, id="wrong at a quarter: cos(pi/4)"),
        pytest.param(1000, False, -1.0, id="wrong at the end"),
    ],
)
def test_the_cosine_reward_follows_its_formula(
    num_tokens: int, right: bool, expected: float, completion: MakeCompletion
) -> None:
    scores = Cosine(judged_by="right", max_length=1000).score_judged(
        [completion(num_tokens=num_tokens)], [right], NOW
    )
    assert scores == [pytest.approx(expected)]


def test_with_the_papers_corner_values_a_long_wrong_completion_loses_less(completion: MakeCompletion) -> None:
    paper = Cosine(judged_by="right", max_length=1000, wrong_short=-1.0, wrong_long=-0.5)
    short, long = (completion(num_tokens=tokens) for tokens in (0, 1000))
    assert paper.score_judged([short, long], [False, False], NOW) == [-1.0, -0.5]


def test_right_must_score_more_than_wrong() -> None:
    with pytest.raises(ValueError, match=r"worst right completion scores 0.5 and the best wrong one 0.6"):
        Cosine(judged_by="right", max_length=1000, wrong_short=0.6)


@pytest.mark.parametrize("reward", [Length(judged_by="right"), Cosine(judged_by="right", max_length=9)])
def test_the_reward_abstains_where_the_verdict_is_an_abstention(
    reward: JudgedReward, completion: MakeCompletion
) -> None:
    assert reward.score_judged([completion()], [TIMEOUT], NOW) == [TIMEOUT]


def test_the_verdict_comes_from_another_member(problem: MakeProblem, completion: MakeCompletion) -> None:
    committee = Committee({"short": Length(judged_by="right"), "right": Strict(style="plain", weight=0.0)})
    group = [completion("#### 42", num_tokens=10), completion("#### 41", num_tokens=20)]
    assert committee.score([problem("42")] * 2, group, NOW)["short"] == [0.5, -0.5]


@pytest.mark.parametrize(
    ("num_tokens", "expected"),
    [
        pytest.param(80, 0.0, id="last token without penalty"),
        pytest.param(90, -0.5, id="half of the margin"),
        pytest.param(100, -1.0, id="at the limit"),
        pytest.param(900, -1.0, id="far beyond"),
    ],
)
def test_the_penalty_grows_linearly_inside_the_margin(
    num_tokens: int, expected: float, problem: MakeProblem, completion: MakeCompletion
) -> None:
    reward = SoftOverlong(limit=100, margin=20)
    assert reward.score(problem(), completion(num_tokens=num_tokens), NOW) == pytest.approx(expected)


def test_a_margin_wider_than_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lower rewards.soft_overlong.margin"):
        SoftOverlong(limit=10, margin=20)
