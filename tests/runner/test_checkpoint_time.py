"""A checkpoint that takes longer than a scheduler leaves time for is pointed out, in the run and in its plan."""

from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.config.experiment import Experiment
from r1exp.launcher.base import Launcher
from r1exp.launcher.local import Local
from r1exp.paths import StepPaths
from r1exp.plan.devices import hardware_here
from r1exp.plan.oddities import oddities
from r1exp.plan.steps import planned_steps
from r1exp.runner.checkpoint_time import CheckpointTime, too_slow
from r1exp.runner.signals import Listener
from r1exp.step.checkpoints import mark_complete, seconds_of_checkpoint

Compose = Callable[..., Experiment]


class Owner:
    key, data = "k", "d"

    def deciding_settings(self) -> dict[str, object]:
        return {}


def with_checkpoint(folder: Path, seconds: float | None) -> Path:
    checkpoint = StepPaths(folder).checkpoints / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_bytes(b"1")
    mark_complete(checkpoint, Owner(), 5, None, seconds=seconds)
    return folder


@pytest.fixture
def slurm(compose_line: Compose) -> Launcher:
    return compose_line("launcher=slurm", "launcher.signal_seconds=60").run.launcher


def test_a_run_says_once_that_a_checkpoint_took_too_long(slurm: Launcher, tmp_path: Path) -> None:
    said: list[str] = []
    pace = CheckpointTime(with_checkpoint(tmp_path, 95.0), slurm, said.append)
    for _ in range(3):
        pace._next_look = 0.0
        pace.follow()
    (text,) = said
    assert "took 95 s, and the scheduler leaves 60 s" in text
    assert "type a larger launcher.signal_seconds" in text


def test_what_fits_or_was_not_measured_or_has_no_limit_is_not_mentioned(slurm: Launcher) -> None:
    alone = Local(kind="local", num_processes=1, device="cpu", threads_per_process=None)
    assert too_slow(60.0, slurm) is too_slow(None, slurm) is too_slow(1e6, alone) is None


@pytest.mark.parametrize(
    ("seconds", "expected"), [(None, 60.0), (10.0, 60.0), (95.0, 190.0)], ids=["unknown", "short", "long"]
)
def test_ctrl_c_waits_for_twice_the_last_checkpoint(
    seconds: float | None, expected: float, tmp_path: Path
) -> None:
    listener = Listener()
    listener._step = with_checkpoint(tmp_path, seconds)
    assert listener._patience() == expected


def test_a_step_without_a_checkpoint_has_no_time(tmp_path: Path) -> None:
    assert seconds_of_checkpoint(tmp_path) is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        pytest.param(["launcher.gpus_per_node=8"], "launcher.cpus_per_node=null: many clusters", id="one core"),
        pytest.param(["launcher.gpus_per_node=8", "launcher.cpus_per_node=64"], None, id="cores are stated"),
        pytest.param(
            ["model=qwen2.5-1.5b", "launcher.signal_seconds=10", "launcher.cpus_per_node=8"],
            "a checkpoint has 18.5 GB, which a disk of 1 GB/s writes in 19 s, and the scheduler leaves 10 s",
            id="a large model",
        ),
    ],
)  # fmt: skip
def test_a_plan_points_out_what_a_job_lacks(
    overrides: list[str], said: str | None, compose_line: Compose
) -> None:
    experiment = compose_line("stage=sft", "launcher=slurm", *overrides, "evaluation.before=false", "evaluation.after=false")  # fmt: skip
    steps = planned_steps(experiment)
    found = oddities(steps, hardware_here("cpu"), [None])
    mentioned = [text for text in found if "cpus_per_node" in text or "a checkpoint has" in text]
    assert (mentioned == []) if said is None else any(said in text for text in mentioned)
