"""The reward of the countdown game."""

import time

import pytest

from r1exp.__main__ import main
from r1exp.records import Completion, Problem
from r1exp.rewards.base import UNREADABLE_GOLD, Context
from r1exp.rewards.countdown import CountdownReward, is_solution

NUMBERS = [3, 7, 25, 25]


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        pytest.param("25 * 3 + 7 + 25", True, id="as a person writes it"),
        pytest.param("(25*3)+(25+7)", True, id="brackets"),
        pytest.param("25 * 3 + 7 + 25 = 107", True, id="with the target"),
        pytest.param("$25 \\times 3 + 25 + 7$", True, id="LaTeX"),
        pytest.param("25 × 3 + 25 + 7", True, id="another sign"),
        pytest.param("107", False, id="the target alone"),
        pytest.param("25 * 3 + 7", False, id="a number is not used"),
        pytest.param("25 * 3 + 7 + 25 + 0", False, id="another number"),
        pytest.param("25 * 3 + 7 + 25 + 25 - 25", False, id="a number too often"),
        pytest.param("25 * 3 + 7 - 25", False, id="another value"),
        pytest.param("25 * 3 + 7 + 25 = 108", False, id="a wrong equation"),
        pytest.param("107 = 25 * 3 + 7 + 25", False, id="the other way round"),
        pytest.param("25 * 3 + 7 + 25 = 107 = 107", False, id="two equations"),
        pytest.param("25 * 3 + 7 + 25;", False, id="another letter"),
        pytest.param("25 ** 3 + 7 + 25", False, id="a power"),
        pytest.param("25 // 3 + 7 + 25", False, id="whole division"),
        pytest.param("2525 37", False, id="joined digits"),
        pytest.param("25 / (7 - 7) + 3", False, id="division by zero"),
        pytest.param("(" * 300 + "25", False, id="many brackets"),
        pytest.param("__import__('os')", False, id="a program"),
        pytest.param("", False, id="nothing"),
        pytest.param("1" * 100_000, False, id="long"),
    ],
)
def test_an_expression_must_use_each_number_once_and_equal_the_target(text: str, is_right: bool) -> None:
    assert is_solution(text, NUMBERS, 107) is is_right


def test_division_is_exact_and_every_length_takes_little_time() -> None:
    assert is_solution("8 / (3 - 8 / 3)", [8, 3, 8, 3], 24)
    assert not is_solution("100000000 / 3 * 3", [100000000, 3, 3], 100000001)
    began = time.process_time()
    is_solution("+".join(["1"] * 200), [1] * 200, 200)
    assert time.process_time() - began < 1.0


def test_the_answer_is_read_in_its_place_and_rows_of_other_data_abstain() -> None:
    reward = CountdownReward(style="think_answer")
    problem = Problem("a", "?", None, {"numbers": [3, 4], "target": 7})
    assert (
        reward.score(problem, Completion("<think>3 + 4</think>\n<answer>4 + 3</answer>", 9), Context()) == 1.0
    )
    assert reward.score(problem, Completion("3 + 4", 9), Context()) == 0.0
    assert reward.score(Problem("a", "?", "7"), Completion("x", 1), Context()) == UNREADABLE_GOLD


def test_the_committee_passes_its_check_and_no_exploit_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    data = ("dataset.num_train=100", "dataset.num_test=10")
    assert main(["check", "--attack", "stage=rl", "dataset=countdown", "rewards=countdown", *data]) == 0
    assert "no exploit found" in capsys.readouterr().out
