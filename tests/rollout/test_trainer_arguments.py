"""The trainer's arguments that the rollout sets, and the combinations it refuses."""

from collections.abc import Callable
from typing import Any

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.plan.steps import planned_steps

VLLM = "rollout=vllm_colocate"
RL = "stage=rl"


def arguments(compose_line: Callable[..., Experiment], *overrides: str) -> dict[str, Any]:
    return planned_steps(compose_line(RL, VLLM, "launcher.device=cpu", *overrides))[1].trainer_args


def test_the_trainer_generates_with_vllm_in_its_own_process(
    compose_line: Callable[..., Experiment],
) -> None:
    received = arguments(compose_line, "rollout.gpu_memory_utilization=0.4", "rollout.max_model_length=300")
    assert received["use_vllm"] is True
    assert received["vllm_mode"] == "colocate"
    assert received["vllm_gpu_memory_utilization"] == 0.4
    assert received["vllm_max_model_length"] == 300
    assert received["vllm_importance_sampling_mode"] == "sequence_mask"
    assert received["vllm_importance_sampling_clip_max"] == 3.0


def test_a_disabled_correction_is_passed_explicitly(compose_line: Callable[..., Experiment]) -> None:
    received = arguments(compose_line, "rollout.importance_correction=null")
    assert received["vllm_importance_sampling_correction"] is False  # TRL's own default is true


def test_rloo_receives_no_argument_of_the_correction(compose_line: Callable[..., Experiment]) -> None:
    received = arguments(compose_line, "algorithm=rloo")
    assert received["use_vllm"] is True
    assert not [name for name in received if "importance" in name]


@pytest.mark.parametrize("overrides", [(RL, "rollout=hf"), ("stage=sft", VLLM)], ids=["hf", "sft"])
def test_other_steps_receive_no_arguments_of_vllm(
    compose_line: Callable[..., Experiment], overrides: tuple[str]
) -> None:
    steps = planned_steps(compose_line(*overrides, "launcher.device=cpu", "evaluation.before=false"))
    assert not [name for name in steps[0].trainer_args if "vllm" in name]


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        pytest.param((RL, "trainer.top_p=0.9"), "trl#6789", id="nucleus sampling with a correction"),
        pytest.param((RL, "trainer.top_k=20"), "trainer.top_k=0", id="top_k with a correction"),
        pytest.param((RL, "+trainer.min_p=0.1"), "trainer.min_p=null", id="min_p with a correction"),
        pytest.param((RL, "rollout.sleep=true"), "GPU", id="sleep on a CPU"),
        pytest.param((RL, "rollout.tensor_parallel_size=2"), "GPUs", id="tensor parallelism on a CPU"),
        pytest.param(
            (RL, "launcher.device=cuda", "rollout.tensor_parallel_size=2"),
            "does not divide the 1 ranks",
            id="more devices than ranks",
        ),
    ],
)
def test_impossible_combinations_are_refused_with_advice(
    compose_line: Callable[..., Experiment], overrides: tuple[str, ...], part: str
) -> None:
    device = () if any("cuda" in override for override in overrides) else ("launcher.device=cpu",)
    with pytest.raises(Refused, match=part):
        planned_steps(compose_line(VLLM, *device, *overrides))


def test_nucleus_sampling_is_allowed_without_the_correction(compose_line: Callable[..., Experiment]) -> None:
    received = arguments(compose_line, "trainer.top_p=0.9", "rollout.importance_correction=null")
    assert received["top_p"] == 0.9


def test_arguments_that_the_rollout_sets_are_refused_under_trainer(
    compose_line: Callable[..., Experiment],
) -> None:
    with pytest.raises(Refused, match=r"set rollout\.gpu_memory_utilization"):
        compose_line(RL, VLLM, "+trainer.vllm_gpu_memory_utilization=0.5")


def test_votes_may_be_weighted_by_confidence_if_vllm_returns_log_probabilities(
    compose_line: Callable[..., Experiment],
) -> None:
    overrides = (
        "rewards=vote_partial",
        "rewards.vote_partial.scope=group",
        "rewards.vote_partial.confidence=true",
    )
    assert planned_steps(compose_line(RL, VLLM, *overrides))
    with pytest.raises(Refused, match="rollout=vllm_colocate"):
        planned_steps(compose_line(RL, *overrides))
