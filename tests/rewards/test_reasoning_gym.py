"""The scorers of reasoning-gym as a reward, with the real library."""

import json
from typing import Any

import pytest

from r1exp.__main__ import main
from r1exp.dataset.reasoning_gym import GymTask
from r1exp.dataset.reasoning_gym import ReasoningGym as Data
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context, Score
from r1exp.rewards.reasoning_gym import NOT_OF_GYM, ReasoningGym

pytest.importorskip("reasoning_gym", reason="an optional part: pip install 'r1exp[reasoning_gym]'")


def problems(task: str, **config: Any) -> list[Problem]:
    tasks = {task: GymTask(config=config)}
    return Data(kind="reasoning_gym", tasks=tasks, seed=0, num_train=6, num_test=1).load("train")


def score(problem: Problem, answer: str, **settings: Any) -> Score:
    text = f"<think>so</think>\n<answer>{answer}</answer>"
    return ReasoningGym(style="think_answer", **settings).score(problem, Completion(text, 9), Context())


@pytest.mark.parametrize(
    "task", ["basic_arithmetic", "countdown", "sudoku", "rearc", "n_queens", "acre", "family_relationships"]
)
def test_the_reference_answer_of_every_problem_has_the_full_score(task: str) -> None:
    """Entries of `rearc` hold tuples, which would not survive being stored as JSON."""
    for problem in problems(task):
        assert problem.answer is not None
        assert score(problem, problem.answer) == 1.0
        assert score(problem, "no such thing", partial=False) == 0.0


def test_another_right_answer_is_right_too() -> None:
    problem = problems("countdown")[0]
    assert problem.answer is not None
    assert score(problem, f"({problem.answer})") == 1.0


def test_partial_credit_can_be_refused() -> None:
    problem = problems("countdown")[0]
    wrong = "1 + 1"
    assert 0.0 < float(str(score(problem, wrong))) < 1.0
    assert score(problem, wrong, partial=False) == 0.0


def test_other_problems_are_abstained_from() -> None:
    assert score(Problem("a", "What is 1 + 1?", "2"), "2") == NOT_OF_GYM


def test_the_committee_passes_its_check_and_other_data_are_refused_by_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = ("dataset.num_train=200", "dataset.num_test=20")
    assert main(["check", "stage=rl", "dataset=reasoning_gym", "rewards=reasoning_gym", *data]) == 0
    assert main(["check", "rewards=reasoning_gym"]) == 2
    assert "not a problem of reasoning_gym" in capsys.readouterr().out


def test_rows_survive_being_stored() -> None:
    problem = problems("sudoku")[0]
    assert json.loads(json.dumps(dict(problem.columns))) == problem.columns
