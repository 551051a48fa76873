"""Two runs of one step that are killed in turn go on from each other's checkpoints, to the weights of an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r1exp.files import hash_of_folder
from r1exp.paths import StepPaths
from r1exp.step.status import read_status

LINE = [
    "stage=sft", "tracking=none", "evaluation.before=false", "evaluation.after=false", "max_steps=8",
    "trainer.save_steps=2", "stage.rows_per_step=2", "dataset.num_train=40",
]  # fmt: skip
_PATIENCE = 240.0  # seconds for a few optimizer steps on a busy machine


def start(folder: Path, run: str, store: str = "store") -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "r1exp", *LINE, f"paths.run={run}", f"paths.store={store}"]
    with (folder / f"{run}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def kill_after(process: "subprocess.Popen[bytes]", step: StepPaths, global_step: int) -> None:
    """Kill the parent of a run when a checkpoint is complete."""
    end = time.monotonic() + _PATIENCE
    while not (step.checkpoints / f"checkpoint-{global_step}" / "complete.json").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_two_runs_that_are_killed_in_turn_end_with_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    first, second = (StepPaths(tmp_path / run / "steps" / "01-sft") for run in ("first", "second"))
    kill_after(start(tmp_path, "first"), first, 2)
    kill_after(start(tmp_path, "second"), second, 4)
    kill_after(start(tmp_path, "first"), first, 6)
    ending = [start(tmp_path, run) for run in ("second", "first")]  # both at once: one waits
    whole = start(tmp_path, "whole", store="other")
    assert [process.wait(_PATIENCE) for process in (*ending, whole)] == [0, 0, 0]
    logs = [(tmp_path / f"{run}.log").read_text() for run in ("first", "second")]
    assert "starts from checkpoint-4" in logs[0]
    assert any("starts from checkpoint-6" in log for log in logs)
    assert sum("waiting for another run" in log for log in logs) == 1
    statuses = [read_status(step.folder) for step in (first, second)]
    assert sum(status is not None and status.reused_from is not None for status in statuses) == 1
    undisturbed = StepPaths(tmp_path / "whole" / "steps" / "01-sft")
    hashes = {hash_of_folder(step.artifact) for step in (first, second, undisturbed)}
    assert len(hashes) == 1
    assert not [path for path in tmp_path.rglob(".*") if path.name.endswith(".tmp")]
