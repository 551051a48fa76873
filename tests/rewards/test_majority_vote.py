from collections.abc import Callable
from typing import Any

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context
from r1exp.rewards.majority_vote import MajorityVote

MakeProblem = Callable[..., Problem]
MakeCompletion = Callable[..., Completion]

NOW = Context()


@pytest.mark.parametrize(
    ("answers", "settings", "expected"),
    [
        pytest.param(["7", "8", "7.0"], {}, [1.0, 0.0, 1.0], id="two of three, as numbers"),
        pytest.param(["7", "8", "9"], {}, [0.0, 0.0, 0.0], id="no two agree"),
        pytest.param(["7", "8", "7"], {"min_votes": 3}, [0.0, 0.0, 0.0], id="too few"),
        pytest.param(["7", "8", "8", "7"], {}, [0.0] * 4, id="tie: all score 0"),
        pytest.param(
            ["7", "8", "8", "7"], {"ties": "first"}, [1.0, 0.0, 0.0, 1.0], id="tie: the first answer"
        ),
        pytest.param(["7", "8", "8", "7"], {"ties": "mean"}, [0.5] * 4, id="tie: shared"),
        pytest.param(["east", "east", "west"], {}, [1.0, 1.0, 0.0], id="words"),
    ],
)
def test_the_answer_of_the_majority_scores(
    answers: list[str],
    settings: dict[str, Any],
    expected: list[float],
    problem: MakeProblem,
    answered: MakeCompletion,
) -> None:
    reward = MajorityVote(style="think_answer", **settings)
    assert reward.score_group(problem(None), [answered(answer) for answer in answers], NOW) == expected


def test_completions_without_an_answer_do_not_vote(
    problem: MakeProblem, answered: MakeCompletion, completion: MakeCompletion
) -> None:
    group = [completion("hm"), completion("hm"), completion("hm"), answered("7"), answered("7")]
    scores = MajorityVote(style="think_answer").score_group(problem(None), group, NOW)
    assert scores == [0.0, 0.0, 0.0, 1.0, 1.0]
