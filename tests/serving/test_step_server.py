"""Steps that get a server, the checks before a run, and the arguments that the trainer receives."""

from collections.abc import Callable
from typing import Any

import pytest

from r1exp.algorithm.trainer_fields import fields_of
from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.launcher.base import Device, Launch
from r1exp.stage.config import StepConfig

Compose = Callable[..., Experiment]
RL = ("stage=rl", "rollout=vllm_server", "model=qwen2.5-0.5b", "launcher.device=cuda")


def config(compose_line: Compose, *overrides: str) -> StepConfig:
    return compose_line(*overrides).steps[0].config


def check(step: StepConfig, device: Device) -> None:
    step.rollout.check(step.launcher, device, step.trainer if step.online else None)


@pytest.mark.parametrize(
    ("stage", "has_server"), [("evaluate", True), ("sample", True), ("rl", True), ("sft", False)]
)
def test_steps_that_generate_get_a_server(compose_line: Compose, stage: str, has_server: bool) -> None:
    step = config(compose_line, f"stage={stage}", "rollout=vllm_server")
    assert (step.served("cuda", "ab") is not None) == has_server


def test_training_on_a_cpu_with_a_server_is_refused_with_alternatives(compose_line: Compose) -> None:
    with pytest.raises(Refused, match=r"NCCL.*use rollout=vllm_colocate .* or rollout=hf"):
        check(config(compose_line, "stage=rl", "rollout=vllm_server"), "cpu")


@pytest.mark.parametrize(
    ("overrides", "visible", "sentence"),
    [
        pytest.param(["launcher=local"], "0", "shows 1 CUDA device", id="one GPU for both"),
        pytest.param(
            ["launcher=slurm", "launcher.nodes=2", "launcher.gpus_per_node=4"], "", "launcher.server_nodes=1",
            id="every node trains",
        ),
    ],
)  # fmt: skip
def test_a_server_without_devices_is_refused(
    overrides: list[str], visible: str, sentence: str, compose_line: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(Refused, match=sentence):
        check(config(compose_line, *RL, *overrides), "cuda")


def test_ranks_and_server_on_one_machine_get_separate_devices(
    compose_line: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,4,5")
    overrides = ["launcher=ddp", "launcher.num_processes=3", "rollout.num_devices=1"]
    step = config(compose_line, *RL, *overrides)
    served = step.served("cuda", "ab")
    assert served is not None
    server = served.launch("m")
    assert server.environment["CUDA_VISIBLE_DEVICES"] == "5"
    ranks = served.beside(Launch(("accelerate",), {"A": "1"}, {}))
    assert ranks.environment == {"A": "1", "CUDA_VISIBLE_DEVICES": "2,3,4"}


def test_the_server_runs_the_code_of_a_trusted_model_only(
    compose_line: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    for trusted in (False, True):
        step = config(
            compose_line, *RL, "launcher=local", *(["model.trust_remote_code=true"] if trusted else [])
        )
        served = step.served("cuda", "ab")
        assert served is not None
        assert ("--trust-remote-code" in served.launch("m").arguments) == trusted


def test_a_server_on_its_own_node_uses_all_devices_of_that_node(compose_line: Compose) -> None:
    overrides = ["launcher=slurm", "launcher.nodes=2", "launcher.gpus_per_node=4", "launcher.server_nodes=1"]
    step = config(compose_line, *RL, *overrides)
    check(step, "cuda")
    served = step.served("cuda", "ab")
    assert served is not None
    server = served.launch("m")
    assert "CUDA_VISIBLE_DEVICES" not in server.environment
    assert server.host is None
    launch = Launch(("srun",), {}, {})
    assert served.beside(launch) == launch


def test_the_trainer_receives_the_arguments_of_the_server(compose_line: Compose) -> None:
    arguments: dict[str, Any] = config(compose_line, *RL).rollout.trainer_arguments(fields_of("GRPOConfig"))
    assert arguments == {
        "use_vllm": True, "vllm_mode": "server", "vllm_server_timeout": 600.0, "vllm_importance_sampling_correction": True,
        "vllm_importance_sampling_mode": "sequence_mask", "vllm_importance_sampling_clip_max": 3.0,
        "vllm_importance_sampling_clip_min": None,
    }  # fmt: skip
