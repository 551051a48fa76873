"""Whole runs with rollout=vllm_colocate: training, evaluation, resume, and the detection of stale weights."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from r1exp.algorithm.sampler import GAP

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed; type: make vllm"),
]
STALE = Path(__file__).with_name("stale")
OVERRIDES = (
    "stage=rl", "rollout=vllm_colocate", "tracking=none", "launcher.threads_per_process=1", "algorithm.prompts_per_step=8",
    "max_completion_length=24", "evaluation.before=false", "evaluation.num_problems=16", "paths.run=run",
)  # fmt: skip


def r1exp(folder: Path, *overrides: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with `path` first on Python's import path."""
    paths = [str(path)] if path else []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, "-m", "r1exp", *overrides],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        env=environment,
    )


def rows(step: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (step / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_run_trains_and_evaluates_with_the_current_weights(tmp_path: Path) -> None:
    during = ("evaluation.every=3", "evaluation.num_validation=16")
    done = r1exp(tmp_path, *OVERRIDES, "max_steps=6", "learning_rate=3e-3", "trainer.warmup_steps=0", *during)
    assert done.returncode == 0, done.stderr[-3000:]
    training, evaluation = sorted((tmp_path / "run" / "steps").iterdir())
    accuracy = "eval/validation/greedy/accuracy"
    assert [row["step"] for row in rows(training) if accuracy in row] == [0, 3, 6]
    gaps = [row[GAP] for row in rows(training) if GAP in row]
    assert len(gaps) == 6
    assert max(gaps) < 0.005
    scores = json.loads((evaluation / "artifact" / "scores.json").read_text(encoding="utf-8"))
    assert scores


def test_two_ranks_train_with_one_engine_each(tmp_path: Path) -> None:
    ranks = (
        "launcher=ddp",
        "launcher.num_processes=2",
        "launcher.device=cpu",
        "launcher.threads_per_process=1",
    )
    fast = ("max_steps=3", "learning_rate=3e-3", "trainer.warmup_steps=0", "evaluation.after=false")
    done = r1exp(tmp_path, *OVERRIDES, *ranks, *fast)
    assert done.returncode == 0, done.stderr[-3000:]
    gaps = [row[GAP] for row in rows(tmp_path / "run" / "steps" / "01-grpo") if GAP in row]
    assert len(gaps) == 3
    assert max(gaps) < 0.005


def test_stale_weights_stop_the_run_with_the_reason(tmp_path: Path) -> None:
    done = r1exp(
        tmp_path,
        *OVERRIDES,
        "max_steps=30",
        "learning_rate=1e-2",
        "trainer.warmup_steps=0",
        "evaluation.after=false",
        path=STALE,
    )
    assert done.returncode == 4, done.stderr[-3000:]
    (training,) = (tmp_path / "run" / "steps").iterdir()
    status = json.loads((training / "status.json").read_text(encoding="utf-8"))
    assert status["state"] == "stopped"
    assert status["reason"].startswith("stale_rollouts")
    assert "the sampler does not have the trainer's weights" in status["reason"]
    assert max(row["step"] for row in rows(training)) < 30


def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    overrides = (*OVERRIDES, "max_steps=4", "trainer.save_steps=2", "evaluation.after=false")
    assert r1exp(tmp_path, *overrides, "paths.store=first").returncode == 0
    whole = tmp_path / "run" / "steps" / "01-grpo"
    weights = (whole / "artifact" / "model.safetensors").read_bytes()
    for later in ("artifact", "checkpoints/checkpoint-4"):
        shutil.rmtree(whole / later)
    status = json.loads((whole / "status.json").read_text(encoding="utf-8"))
    (whole / "status.json").write_text(json.dumps({"state": "failed", "seconds": status["seconds"]}))
    assert r1exp(tmp_path, *overrides, "paths.store=second").returncode == 0
    assert [row["step"] for row in rows(whole) if GAP in row] == [1, 2, 3, 4]
    assert (whole / "artifact" / "model.safetensors").read_bytes() == weights
