"""Models that a step loads in addition to its start model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.files import write_text
from r1exp.plan.other_models import other_models, refuse_missing_models
from r1exp.plan.steps import planned_steps

Compose = Callable[..., Experiment]
PPO = ("stage=rl", "algorithm=ppo", "evaluation.before=false", "evaluation.after=false")
SCORER = ("rewards=reward_model", "rewards.preference.model=someone/scorer")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        pytest.param([], {}, id="the critic starts from the policy"),
        pytest.param(["algorithm.critic.path=a/b"], {"algorithm.critic.path": "a/b"}, id="a separate critic model"),
        pytest.param([*SCORER], {"rewards.preference.model": "someone/scorer"}, id="a reward model"),
    ],
)  # fmt: skip
def test_models_in_addition_to_the_policy(
    overrides: list[str], expected: dict[str, str], compose_line: Compose
) -> None:
    assert other_models(compose_line(*PPO, *overrides).steps[0].config) == expected


def test_a_model_that_an_earlier_step_makes_is_left_out(compose_line: Compose) -> None:
    assert [other_models(step.config) for step in compose_line("pipeline=rlhf_ppo").steps] == 5 * [{}]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("/nowhere/at/all", "algorithm.critic.path=/nowhere/at/all: there is no such folder", id="none"),
        pytest.param("EMPTY", r"holds no model \(config.json\)", id="empty"),
    ],
)  # fmt: skip
def test_a_missing_model_is_refused_with_the_name_of_its_setting(
    path: str, message: str, tmp_path: Path, compose_line: Compose
) -> None:
    overrides = [*PPO, f"algorithm.critic.path={path.replace('EMPTY', str(tmp_path))}"]
    with pytest.raises(Refused, match=message):
        refuse_missing_models(compose_line(*overrides).steps[0].config)


def test_other_weights_in_the_same_folder_change_the_key_of_the_step(
    tmp_path: Path, compose_line: Compose
) -> None:
    def key() -> str:
        (step,) = planned_steps(compose_line(*PPO, f"algorithm.critic.path={tmp_path}"))
        return step.key

    write_text(tmp_path / "config.json", "{}")
    before = key()
    write_text(tmp_path / "model.safetensors", "weights")
    assert key() != before
