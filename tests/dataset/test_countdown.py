"""The generator of the countdown game."""

from typing import Any

import pytest
from pydantic import ValidationError

from r1exp.dataset.countdown import Countdown
from r1exp.errors import Refused
from r1exp.rewards.countdown import is_solution


def countdown(**changes: Any) -> Countdown:
    values = {
        "kind": "countdown", "seed": 0, "num_train": 300, "num_test": 40, "least_numbers": 3, "most_numbers": 4,
        "max_number": 99, "max_target": 999,
    }  # fmt: skip
    return Countdown.model_validate(values | changes)


def test_every_gold_answer_obeys_the_rules_and_every_problem_is_in_one_split_once() -> None:
    data = countdown()
    problems = data.load("train") + data.load("test")
    assert len(problems) == 340 and data.count("train") == 300
    keys = {(*sorted(p.columns["numbers"]), p.columns["target"]) for p in problems}
    assert len(keys) == 340 and {len(p.columns["numbers"]) for p in problems} == {3, 4}
    for problem in problems:
        numbers, target = problem.columns["numbers"], problem.columns["target"]
        assert is_solution(str(problem.answer), numbers, target), problem
        assert all(str(number) in problem.prompt for number in [*numbers, target]) and 1 <= target <= 999


def test_the_problems_follow_from_the_seed_alone() -> None:
    assert countdown().load("train") == countdown().load("train") != countdown(seed=1).load("train")
    assert countdown(num_train=10).load("train") == countdown().load("train")[:10]
    assert countdown(num_train=10).fingerprint_of("test") == countdown().fingerprint_of("test")
    assert countdown().fingerprint() != countdown(max_number=50).fingerprint()


def test_settings_with_too_few_problems_are_refused() -> None:
    few = countdown(least_numbers=2, most_numbers=2, max_number=2, max_target=4)
    with pytest.raises(
        Refused, match=r"dataset\.num_test=40: these settings give only \d+ different problems"
    ):
        few.load("test")
    with pytest.raises(ValidationError, match="least_numbers=5 is more than most_numbers=4"):
        countdown(least_numbers=5)
