"""Which folder `algorithm.critic.path` names."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from r1exp.algorithm.ppo import Ppo
from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.files import write_text
from r1exp.model.locate import locate_critic
from r1exp.plan.steps import planned_steps

Compose = Callable[..., Experiment]
MODELS = Path(__file__).parents[2] / "conf" / "model"
PPO = ("stage=rl", "algorithm=ppo", "evaluation.before=false", "evaluation.after=false")


def step_of(run: Path, name: str, kind: str, *, critic: bool = False, state: str = "done") -> Path:
    """Write a step of a run as far as its artifact is looked for, and return the artifact."""
    step = run / "steps" / name
    write_text(run / "manifest.json", "{}")
    write_text(step / "step.json", "{}")
    write_text(step / "status.json", json.dumps({"state": state, "artifact": {"kind": kind}}))
    write_text(step / "artifact" / "config.json", "{}")
    if critic:
        write_text(step / "artifact" / "critic" / "config.json", "{}")
    return step / "artifact"


def test_of_a_run_it_is_the_newest_critic_or_reward_model(tmp_path: Path) -> None:
    scorer = step_of(tmp_path, "01-reward-model", "reward_model")
    assert locate_critic(str(tmp_path)) == scorer
    policy = step_of(tmp_path, "02-ppo", "model", critic=True)
    step_of(tmp_path, "03-grpo", "model")
    step_of(tmp_path, "04-ppo", "model", critic=True, state="failed")
    assert locate_critic(str(tmp_path)) == policy / "critic"
    assert locate_critic(str(scorer.parent)) == scorer


def test_a_model_or_a_hub_id_is_taken_as_it_is(tmp_path: Path) -> None:
    policy = step_of(tmp_path, "01-ppo", "model", critic=True)
    assert locate_critic(str(policy)) == str(policy)
    assert locate_critic("someone/model") == "someone/model"


def test_a_run_without_a_critic_is_refused(tmp_path: Path) -> None:
    step_of(tmp_path, "01-grpo", "model")
    with pytest.raises(Refused, match=r"no step there has finished with a critic or a reward model"):
        locate_critic(str(tmp_path))


def test_the_critic_counts_in_the_key_with_its_content(tmp_path: Path, compose_line: Compose) -> None:
    step_of(tmp_path, "01-ppo", "model", critic=True)
    head = tmp_path / "steps" / "01-ppo" / "artifact" / "critic" / "value_head.safetensors"

    def key() -> str:
        (step,) = planned_steps(compose_line(*PPO, f"algorithm.critic.path={tmp_path}"))
        assert step.config.other_models() == {"algorithm.critic.path": str(head.parent)}
        return step.key

    write_text(head, "one")
    first = key()
    write_text(tmp_path / "other.txt", "no part of the critic")
    assert key() == first
    write_text(head, "two")
    assert key() != first


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("algorithm.critic.path=a/b algorithm.critic.kind=zero", "kind=zero has no weights", id="no weights"),
        pytest.param("algorithm.critic.warmup_steps=5 algorithm.critic.kind=shared", "use algorithm.critic.kind=separate", id="shared"),
        pytest.param("algorithm.critic.warmup_steps=5 trainer.weight_decay=0.1", "set one of them to 0", id="decay"),
        pytest.param("algorithm.critic.gae_lambda=1.0 algorithm.critic.kind=zero", "learns none", id="no targets"),
    ],
)  # fmt: skip
def test_critics_that_cannot_do_what_is_asked_are_refused(
    override: str, message: str, compose_line: Compose
) -> None:
    with pytest.raises((ValueError, Refused), match=message):
        compose_line(*PPO, *override.split())


@pytest.mark.parametrize("file", sorted(MODELS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_model_has_a_rate_of_its_critic(file: Path) -> None:
    rates = yaml.safe_load(file.read_text(encoding="utf-8"))["learning_rate"]
    assert rates["critic"] == (1e-3 if file.stem.startswith("tiny") else 5e-6)


def test_the_rate_of_the_critic_is_the_models(compose_line: Compose) -> None:
    algorithm = compose_line(*PPO, "model.learning_rate.critic=3e-4").steps[0].config.algorithm
    assert isinstance(algorithm, Ppo)
    assert algorithm.critic.learning_rate == 3e-4
