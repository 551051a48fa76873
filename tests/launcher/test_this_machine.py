"""How many ranks a machine with so many GPUs gets; CUDA_VISIBLE_DEVICES says how many there are."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.launcher.ddp import Ddp
from r1exp.launcher.local import Local
from r1exp.plan.steps import PlannedStep, planned_steps
from r1exp.worker import _see_one_device

Compose = Callable[..., Experiment]


def ddp(num_processes: int | None, device: str = "cuda") -> Ddp:
    return Ddp(kind="ddp", num_processes=num_processes, device=device, threads_per_process=None, port=None)  # type: ignore[arg-type]


def on(monkeypatch: pytest.MonkeyPatch, devices: Sequence[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(devices))


def ranks_of(steps: Sequence[PlannedStep]) -> dict[str, int]:
    return {step.name: step.config.launcher.num_processes for step in steps}


@pytest.mark.parametrize(
    ("num_processes", "kept", "expected"),
    [
        pytest.param(None, 0, 8, id="all"),
        pytest.param(None, 2, 6, id="what a server leaves"),
        pytest.param(4, 2, 4, id="as typed"),
    ],
)
def test_null_is_one_rank_for_each_gpu_that_a_server_leaves(
    num_processes: int | None, kept: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, "01234567")
    assert ddp(num_processes).for_step(kept).num_processes == expected


def test_null_is_two_ranks_on_a_cpu_however_many_gpus_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, "01234567")
    assert ddp(None, "cpu").for_step(0).num_processes == 2
    assert ddp(9, "cpu").for_step(0).num_processes == 9


@pytest.mark.parametrize(
    ("devices", "num_processes", "kept", "message"),
    [
        pytest.param("01", 4, 0, "shows 2 CUDA.*type launcher.num_processes=2, or leave it out", id="too many ranks"),
        pytest.param("0123", 4, 2, "server takes 2.*launcher.num_processes=2", id="none left for the server"),
        pytest.param("0", None, 1, "none is left to train on", id="the server has the only one"),
        pytest.param("", None, 0, "r1exp plan device=h100 devices=8", id="none can be counted"),
    ],
)  # fmt: skip
def test_more_ranks_than_gpus_are_refused_with_what_to_type(
    devices: str, num_processes: int | None, kept: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, devices)
    with pytest.raises(Refused, match=message):
        ddp(num_processes).for_step(kept)


def test_a_single_process_sees_one_gpu_and_ranks_see_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, ["4", "5", "6"])
    local = Local(kind="local", num_processes=1, device="cuda", threads_per_process=None)
    assert local.launch(Path("step")).environment["CUDA_VISIBLE_DEVICES"] == "4"
    assert ddp(2).launch(Path("step")).environment["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert "CUDA_VISIBLE_DEVICES" not in ddp(3).launch(Path("step")).environment


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        pytest.param({}, "4", id="alone"),
        pytest.param({"LOCAL_WORLD_SIZE": "1", "WORLD_SIZE": "2"}, "4", id="alone on its machine"),
        pytest.param({"LOCAL_WORLD_SIZE": "2"}, "4,5", id="one of two"),
    ],
)
def test_a_rank_that_is_alone_hides_the_other_gpus_however_it_was_started(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, "45")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    _see_one_device()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


def test_only_the_step_that_trains_with_a_server_leaves_gpus_to_it(
    compose_line: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, "01234567")
    typed = ["launcher=zero3", "launcher.device=cuda", "rollout=vllm_server", "rollout.num_devices=4"]
    steps = planned_steps(compose_line(*typed, "evaluation.before=false"))
    found = ranks_of(steps)
    assert (found["sft"], found["rl"]) == (8, 4)


def test_the_number_of_ranks_is_no_part_of_what_a_step_is(
    compose_line: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    for devices in ("01", "0123"):
        on(monkeypatch, devices)
        (step,) = planned_steps(
            compose_line("stage=sft", "launcher=ddp", "launcher.device=cuda", "evaluation.before=false", "evaluation.after=false")
        )  # fmt: skip
        keys.append((step.key, step.variant, step.numerics["launcher.num_processes"]))
    assert keys[0][0] == keys[1][0]
    assert keys[0][1] != keys[1][1]
    assert [number for _, _, number in keys] == [2, 4]
