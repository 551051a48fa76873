"""The data set of reasoning-gym, with the real library."""

from typing import Any

import pytest

from r1exp.dataset.reasoning_gym import ReasoningGym, gym_entry
from r1exp.errors import Refused

pytest.importorskip("reasoning_gym", reason="an optional part: pip install 'r1exp[reasoning_gym]'")


def gym(**changes: Any) -> ReasoningGym:
    values = {"kind": "reasoning_gym", "tasks": {"basic_arithmetic": {}, "countdown": {"weight": 3.0}}}
    return ReasoningGym.model_validate(values | {"seed": 0, "num_train": 40, "num_test": 20} | changes)


def test_splits_have_the_wanted_sizes_and_share_no_question() -> None:
    train, test = gym().load("train"), gym().load("test")
    questions = {problem.prompt for problem in train}
    assert (len(questions), len({problem.prompt for problem in test})) == (40, 20)
    assert not questions & {problem.prompt for problem in test}
    tasks = [problem.columns["gym_task"] for problem in train]
    assert 20 < tasks.count("countdown") < 40  # three quarters of 40


def test_the_same_settings_give_the_same_problems_and_another_seed_others() -> None:
    assert gym().load("test") == gym().load("test")
    assert gym().load("test") != gym(seed=1).load("test")
    assert gym().fingerprint() != gym(seed=1).fingerprint()


def test_a_row_names_the_entry_of_the_library() -> None:
    problem = gym().load("train")[0]
    columns = problem.columns
    entry = gym_entry(columns["gym_task"], {}, columns["gym_seed"], columns["gym_size"], columns["gym_index"])
    assert (entry["question"].strip(), entry["answer"]) == (problem.prompt, problem.answer)


def test_settings_of_a_task_reach_it() -> None:
    tasks = {"basic_arithmetic": {"config": {"min_terms": 2, "max_terms": 2, "operators": ["+"]}}}
    assert all("+" in problem.prompt for problem in gym(tasks=tasks).load("test"))


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ({"count_down": {}}, "did you mean countdown"),
        ({"countdown": {"config": {"max_terms": 3}}}, "dataset.tasks.countdown.config is refused"),
        ({"countdown": {"config": {"min_numbers": 9}}}, "dataset.tasks.countdown.config is refused"),
        ({"rubiks_cube": {}}, "has no reference answers"),
    ],
    ids=["misspelt", "no such setting", "wrong setting", "no answers"],
)
def test_what_the_library_cannot_do_is_refused(tasks: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        gym(tasks=tasks).load("train")


def test_a_task_with_too_few_problems_is_refused() -> None:
    config = {"min_n": 1, "max_n": 9}
    with pytest.raises(Refused, match="too few different problems"):
        gym(tasks={"count_bits": {"config": config}}).load("train")
