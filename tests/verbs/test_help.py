"""`r1exp help`: every key, group and option is explained, and a misspelt one is refused with the nearest."""

import re
from collections.abc import Callable

import pytest

from r1exp.__main__ import main
from r1exp.config.comments import yaml_comments, yaml_purpose
from r1exp.config.compose import groups, session
from r1exp.config.describe import ANY, allowed, every_key, meaning, option_purpose, readers, value_now
from r1exp.config.experiment import Experiment, experiment_from
from r1exp.config.names import _ELSEWHERE
from r1exp.config.overrides import flat


@pytest.mark.parametrize(
    "line",
    [
        pytest.param([], id="the quickstart"),
        pytest.param(["algorithm=ppo", "rewards=open_r1", "rollout=vllm_server", "model=qwen2.5-0.5b"], id="ppo"),
        pytest.param(["stage=sample", "rewards=code", "dataset=gsm8k"], id="sample"),
        pytest.param(["experiment=rlhf_sums", "launcher=slurm"], id="a reward model"),
    ],
)  # fmt: skip
def test_every_composed_key_is_described(line: list[str]) -> None:
    with session():
        experiment = experiment_from(line)
        for key in flat(experiment.composition.values):
            assert meaning(key, experiment), key
            assert allowed(key), key
            assert value_now(key, experiment), key
            assert readers(key), key


def test_every_key_of_every_kind_is_described(compose_line: Callable[..., Experiment]) -> None:
    experiment = compose_line()
    keys = every_key()
    assert {
        "launcher.nodes",
        "rewards.NAME.weight",
        "stage.samples",
        "algorithm.critic.learning_rate",
    } <= keys
    assert [key for key in sorted(keys) if not meaning(key, experiment)] == []


def test_every_group_and_option_is_described(compose_line: Callable[..., Experiment]) -> None:
    experiment = compose_line()
    for group, options in groups().items():
        assert meaning(group, experiment), group
        for option in options:
            assert option_purpose(group, option), f"{group}={option}"


@pytest.mark.parametrize(
    ("topic", "parts"),
    [
        pytest.param(
            "beta",
            ["weight of the KL penalty", ">= 0", "0.005 (algorithm/grpo.yaml)", "algorithm=ppo"],
            id="key",
        ),
        pytest.param("max_steps", ["100 (", "in step rl", "150 (", "in step sft"], id="one value a step"),
        pytest.param("launcher.nodes", ["number of nodes", "launcher.kind slurm"], id="another option's key"),
        pytest.param("model.dtype", ["float32, bfloat16, float16"], id="a choice"),
        pytest.param("trainer.epsilon", ["clipping", "algorithm=grpo", "0.2"], id="trainer"),
        pytest.param("trainer.adam_beta1", ["0.9 (default of TRL)", "stage=sft"], id="a trainer's default"),
        pytest.param("dataset", ["* arithmetic", "gsm8k", "Grade-school", "dataset.limit"], id="group"),
        pytest.param("dataset=gsm8k", ["# Grade-school", "A preset of dataset=hf"], id="option"),
        pytest.param("plan", ["r1exp plan [-m] overrides..."], id="verb"),
        pytest.param(f"rewards.{ANY}.weight", ["factor in the weighted total"], id="a name of a mapping"),
        pytest.param("rewards.graded.exact", ["points for the exact text"], id="a reward's own"),
        pytest.param("pipeline.steps.sft.set.max_steps", ["max_steps in step sft"], id="a step's value"),
        pytest.param("model.lora", ["model.lora.alpha"], id="a mapping"),
    ],
)
def test_a_topic_is_explained(topic: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", topic]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for part in parts:
        assert part in shown


def test_overrides_choose_the_configuration_that_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "learning_rate", "stage=sft", "model=qwen2.5-0.5b"]) == 0
    assert "stage/sft.yaml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("topic", "part"),
    [
        pytest.param("bta", "Did you mean `r1exp help beta`?", id="a key"),
        pytest.param("datset", "Did you mean `r1exp help dataset`?", id="a group"),
        pytest.param("dataset=gsm8", "Did you mean dataset=gsm8k?", id="an option"),
        pytest.param("model.lora.rank", "model.lora.", id="a key below another"),
        pytest.param("lr", "In r1exp it is learning_rate", id="a name of another framework"),
        pytest.param("rewards.graded.wieght", "rewards.graded.weight", id="a reward's key"),
    ],
)
def test_a_misspelt_topic_is_refused_with_the_nearest(
    topic: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["help", topic]) == 2
    assert part in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["lr", "epochs", "batch_size", "gpus", "kl_coef", "max_tokens", "output_dir"]
)
def test_a_name_of_another_framework_is_refused_with_the_key(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", f"{name}=1"]) == 2
    assert f"In r1exp it is {_ELSEWHERE[name][0]}" in capsys.readouterr().err


def test_names_of_other_frameworks_lead_to_keys_that_exist(compose_line: Callable[..., Experiment]) -> None:
    known = every_key() | set(flat(compose_line().composition.values)) | set(groups()) | {"plan"}
    assert {name for name, _ in _ELSEWHERE.values()} <= known
    top = {key for key in known if "." not in key}
    assert not set(_ELSEWHERE) & top  # they would never be shown


def test_comments_of_a_yaml_file_are_found_by_key() -> None:
    text = "# @package _global_\n# What it is.\n# Source: here.\na: 1  # one\nb:\n  c: 2  # two\n  d: 'x#y'\ne: 3\n"
    assert yaml_purpose(text) == "What it is."
    assert yaml_comments(text) == {"a": "one", "b.c": "two"}


def test_the_descriptions_are_plain_lines(compose_line: Callable[..., Experiment]) -> None:
    experiment = compose_line()
    for key in every_key():
        text = meaning(key, experiment)
        assert not re.search(r"\n|`\]|\]\(", text), key
