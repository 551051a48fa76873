"""A training step that is asked to end saves, ends, and goes on from there as if nothing had happened."""

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

WORDS = [
    "stage=sft",
    "max_steps=30",
    "stage.rows_per_step=4",
    "dataset.num_train=200",
    "trainer.logging_steps=1",
]
WORDS += ["trainer.save_strategy=no", "evaluation.before=false", "evaluation.after=false", "tracking=none"]
WORDS += ["launcher.threads_per_process=1"]


def stopped(folder: Path, command: list[str], number: signal.Signals, at_step: int) -> int:
    """Run a command until the step has logged `at_step`, send it a signal, and return its exit code."""
    environment = {key: value for key, value in os.environ.items() if key != PARENT_VARIABLE}
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=folder.parents[2], stderr=subprocess.DEVNULL, env=environment
    )
    end = time.monotonic() + 300
    metrics = folder / "metrics.jsonl"
    while not (metrics.exists() and f'"step": {at_step},' in metrics.read_text(encoding="utf-8")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    return process.wait(120)


@pytest.mark.slow
def test_ctrl_c_and_a_schedulers_sigterm_both_save_and_the_end_is_that_of_a_calm_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*WORDS, "paths.run=calm", "paths.store=other"]) == 0
    folder = tmp_path / "run" / "steps" / "01-sft"
    assert stopped(folder, ["r1exp", *WORDS, "paths.run=run"], signal.SIGINT, 3) == 130
    first = read_status(folder)
    assert first is not None and (first.state, first.checkpoint is not None) == ("interrupted", True)
    # The frozen step alone, as docs/schedulers.md says: no parent of ours, so the worker hears the signal itself.
    assert stopped(folder, ["r1exp.worker", str(folder)], signal.SIGTERM, 12) == 75
    second = read_status(folder)
    assert second is not None and second.state == "preempted"
    assert first.checkpoint != second.checkpoint
    assert main([*WORDS, "paths.run=run"]) == 0
    ended, calm = (
        path.joinpath("steps", "01-sft", "artifact", "model.safetensors").read_bytes()
        for path in (tmp_path / "run", tmp_path / "calm")
    )
    assert ended == calm
