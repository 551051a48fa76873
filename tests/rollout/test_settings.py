"""Settings of the rollouts, and the options of conf/rollout/."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.rollout.menu import RolloutSettings

CONF = Path(__file__).parents[2] / "conf" / "rollout"


def read(path: Path, **changes: Any) -> Any:
    required = {"model": "m"} if path.stem == "endpoint" else {}
    values = yaml.safe_load(path.read_text(encoding="utf-8")) | required | changes
    return TypeAdapter(RolloutSettings).validate_python(values)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_option_is_read(path: Path) -> None:
    assert read(path).kind == path.stem


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"gpu_memory_utilization": 1.5}, id="more than the whole device"),
        pytest.param({"tensor_parallel_size": 0}, id="no device"),
        pytest.param(
            {"importance_correction": {"mode": "often", "clip_max": 3.0, "clip_min": None}}, id="mode"
        ),
    ],
)
def test_impossible_vllm_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(CONF / "vllm_colocate.yaml", **wrong)


def test_memory_settings_of_a_rollout_are_not_part_of_the_step_key(
    compose_line: Callable[..., Experiment],
) -> None:
    def identity(*overrides: str) -> dict[str, Any]:
        return compose_line("stage=rl", "rollout=vllm_colocate", *overrides).run.deciding_settings()

    assert identity() == identity("rollout.cpu_kvcache_gib=2", "rollout.gpu_memory_utilization=0.5")
    assert identity() != identity("rollout.importance_correction.clip_max=2.0")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.1.2.3", "192.168.0.7", "::1"])
def test_a_server_may_listen_on_loopback_and_private_addresses(host: str) -> None:
    assert read(CONF / "vllm_server.yaml", host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "8.8.8.8", "example.org", "224.0.0.1"])
def test_a_server_with_a_public_address_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match=r"use host=127\.0\.0\.1"):
        read(CONF / "vllm_server.yaml", host=host)


def test_the_devices_of_a_server_must_hold_whole_copies_of_the_model() -> None:
    assert read(CONF / "vllm_server.yaml", num_devices=4, tensor_parallel_size=2).num_copies == 2
    with pytest.raises(ValidationError, match="no multiple"):
        read(CONF / "vllm_server.yaml", num_devices=3, tensor_parallel_size=2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(["algorithm=rloo"], "algorithm=rloo has none", id="no ratio"),
        pytest.param(["algorithm=dapo"], "resamples prompts", id="resampled prompts"),
        pytest.param(["model.lora.r=4"], "model.lora.r=4 trains adapters", id="adapters"),
    ],
)
def test_sampling_ahead_is_refused_where_it_cannot_be_corrected(
    overrides: list[str], message: str, compose_line: Callable[..., Experiment]
) -> None:
    with pytest.raises((ValidationError, Refused), match=message):
        compose_line("stage=rl", "rollout.staleness=1", *overrides)


@pytest.mark.parametrize(
    ("launcher", "device", "message"),
    [
        pytest.param("local", "cuda", "would share the device that trains", id="a GPU"),
        pytest.param("zero3", "cpu", "launcher=zero3 partitions them", id="partitioned weights"),
        pytest.param("fsdp2", "cpu", "launcher=fsdp2 partitions them", id="FSDP2"),
    ],
)
def test_sampling_ahead_is_refused_where_no_process_of_its_own_can_do_it(
    launcher: str, device: Any, message: str, compose_line: Callable[..., Experiment]
) -> None:
    config = compose_line("stage=rl", "rollout.staleness=1", f"launcher={launcher}").steps[0].config
    with pytest.raises(Refused, match=message):
        config.rollout.check(config.launcher, device, {})
    config.rollout.check(config.launcher, device, None)  # an evaluation samples by turns


def test_sampling_ahead_is_part_of_the_key_of_training_only(
    compose_line: Callable[..., Experiment],
) -> None:
    def identity(stage: str, staleness: int) -> dict[str, Any]:
        step = compose_line(f"stage={stage}", f"rollout.staleness={staleness}").steps[0]
        return step.config.deciding_settings()

    assert identity("evaluate", 0) == identity("evaluate", 1)
    assert identity("rl", 0) != identity("rl", 1)
    assert "staleness" not in identity("rl", 0)["rollout"]


def test_seeds_of_batches_are_in_the_key_only_where_they_are_asked_for(
    compose_line: Callable[..., Experiment],
) -> None:
    def identity(stage: str, seeds: str) -> dict[str, Any]:
        step = compose_line(f"stage={stage}", f"rollout.seed_each_batch={seeds}").steps[0]
        return step.config.deciding_settings()

    assert "seed_each_batch" not in identity("rl", "false")["rollout"]
    assert identity("rl", "false") != identity("rl", "true")
    assert identity("evaluate", "false") == identity("evaluate", "true")


def test_seeds_of_batches_are_refused_where_another_process_samples(
    compose_line: Callable[..., Experiment],
) -> None:
    config = compose_line("stage=rl", "rollout.staleness=1", "rollout.seed_each_batch=true").steps[0].config
    with pytest.raises(Refused, match="seeds the process that trains"):
        config.rollout.check(config.launcher, "cpu", {})
