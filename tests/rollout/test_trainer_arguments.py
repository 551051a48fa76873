from collections.abc import Callable
from typing import Any

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.plan.steps import planned_steps

VLLM = "rollout=vllm_colocate"
RL = "stage=rl"


def arguments(compose_line: Callable[..., Experiment], *words: str) -> dict[str, Any]:
    return planned_steps(compose_line(RL, VLLM, "launcher.device=cpu", *words))[1].trainer_args


def test_the_trainer_is_told_to_generate_with_vllm_in_its_own_process(
    compose_line: Callable[..., Experiment],
) -> None:
    told = arguments(compose_line, "rollout.gpu_memory_utilization=0.4", "rollout.max_model_length=300")
    assert told["use_vllm"] is True
    assert told["vllm_mode"] == "colocate"
    assert told["vllm_gpu_memory_utilization"] == 0.4
    assert told["vllm_max_model_length"] == 300
    assert told["vllm_importance_sampling_mode"] == "sequence_mask"
    assert told["vllm_importance_sampling_clip_max"] == 3.0


def test_no_correction_is_said_aloud(compose_line: Callable[..., Experiment]) -> None:
    told = arguments(compose_line, "rollout.importance_correction=null")
    assert told["vllm_importance_sampling_correction"] is False  # TRL's own default is true


def test_rloo_which_knows_no_correction_is_told_none(compose_line: Callable[..., Experiment]) -> None:
    told = arguments(compose_line, "algorithm=rloo")
    assert told["use_vllm"] is True
    assert not [name for name in told if "importance" in name]


@pytest.mark.parametrize("overrides", [(RL, "rollout=hf"), ("stage=sft", VLLM)], ids=["hf", "sft"])
def test_other_steps_get_no_arguments_of_vllm(
    compose_line: Callable[..., Experiment], overrides: tuple[str]
) -> None:
    steps = planned_steps(compose_line(*overrides, "launcher.device=cpu", "evaluation.before=false"))
    assert not [name for name in steps[0].trainer_args if "vllm" in name]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        pytest.param((RL, "trainer.top_p=0.9"), "trl#6789", id="nucleus with a correction"),
        pytest.param((RL, "trainer.top_k=20"), "trainer.top_k=0", id="top tokens with a correction"),
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
def test_what_cannot_work_is_refused_with_a_way_out(
    compose_line: Callable[..., Experiment], words: tuple[str, ...], part: str
) -> None:
    device = () if any("cuda" in word for word in words) else ("launcher.device=cpu",)
    with pytest.raises(Refused, match=part):
        planned_steps(compose_line(VLLM, *device, *words))


def test_a_nucleus_is_allowed_without_the_correction(compose_line: Callable[..., Experiment]) -> None:
    told = arguments(compose_line, "trainer.top_p=0.9", "rollout.importance_correction=null")
    assert told["top_p"] == 0.9


def test_what_the_rollout_owns_is_not_typed_as_the_trainers(compose_line: Callable[..., Experiment]) -> None:
    with pytest.raises(Refused, match=r"set rollout\.gpu_memory_utilization"):
        compose_line(RL, VLLM, "+trainer.vllm_gpu_memory_utilization=0.5")


def test_votes_may_be_weighed_by_confidence_where_vllm_hands_log_probabilities(
    compose_line: Callable[..., Experiment],
) -> None:
    words = (
        "rewards=vote_partial",
        "rewards.vote_partial.scope=group",
        "rewards.vote_partial.confidence=true",
    )
    assert planned_steps(compose_line(RL, VLLM, *words))
    with pytest.raises(Refused, match="rollout=vllm_colocate"):
        planned_steps(compose_line(RL, *words))
