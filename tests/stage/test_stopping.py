"""A training step that is requested to end saves a checkpoint, and resumes from it bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.runner.process import PARENT_VARIABLE
from r1exp.step.status import read_status

OVERRIDES = [
    "stage=sft",
    "max_steps=60",
    "stage.rows_per_step=4",
    "dataset.num_train=200",
    "trainer.logging_steps=1",
]
OVERRIDES += [
    "trainer.save_strategy=no",
    "evaluation.before=false",
    "evaluation.after=false",
    "tracking=none",
]
OVERRIDES += ["launcher=local"]


def num_rows(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    return metrics.read_text(encoding="utf-8").count("\n") if metrics.exists() else 0


def stopped(folder: Path, command: list[str], number: signal.Signals) -> int:
    """Run a command until the step has logged more rows than before, send it a signal, and return its exit code."""
    environment = {key: value for key, value in os.environ.items() if key != PARENT_VARIABLE}
    before = num_rows(folder)
    # As the launcher sets it; another number of threads changes the digits.
    environment["OMP_NUM_THREADS"] = "1"
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=folder.parents[2], stderr=subprocess.DEVNULL, env=environment
    )
    end = time.monotonic() + 300
    while num_rows(folder) < before + 3:
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    return process.wait(120)


@pytest.mark.slow
def test_a_run_ended_by_ctrl_c_and_by_sigterm_resumes_to_the_weights_of_an_uninterrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*OVERRIDES, "paths.run=whole", "paths.store=other"]) == 0
    folder = tmp_path / "run" / "steps" / "01-sft"
    assert stopped(folder, ["r1exp", *OVERRIDES, "paths.run=run"], signal.SIGINT) == 130
    first = read_status(folder)
    assert first is not None and (first.state, first.checkpoint is not None) == ("interrupted", True)
    # The step alone, as in docs/schedulers.md: without a parent of r1exp the worker itself handles the signal.
    assert stopped(folder, ["r1exp.worker", str(folder)], signal.SIGTERM) == 75
    second = read_status(folder)
    assert second is not None and second.state == "preempted"
    assert first.checkpoint != second.checkpoint
    assert main([*OVERRIDES, "paths.run=run"]) == 0
    resumed, whole = (
        path.joinpath("steps", "01-sft", "artifact", "model.safetensors").read_bytes()
        for path in (tmp_path / "run", tmp_path / "whole")
    )
    assert resumed == whole
