"""Test that a run through r1exp and a bare TRL script give the same weights, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from r1exp.__main__ import main
from r1exp.stage.step import Step, read_step

BARE = Path(__file__).with_name("bare_grpo.py")
OVERRIDES = [
    "stage=rl", "~rewards.graded", "~rewards.xml_count", "+rewards.letters={kind: 'bare_rewards:letters'}", "model.rows_per_device.rl=16", "algorithm.prompts_per_step=4",
    "max_steps=3", "evaluation.before=false", "evaluation.after=false", "tracking=none", "trainer.save_strategy=no",
    "launcher=local", "learning_rate=1e-3", "max_completion_length=12", "algorithm.short_passes=false",
]  # fmt: skip


def job_of(step: Step, output: Path) -> dict[str, Any]:
    """Return the job of the bare script: arguments and rows, without r1exp."""
    problems = step.config.dataset.load("train")
    system = {"role": "system", "content": step.config.prompt.system}
    rows = [{"prompt": [system, {"role": "user", "content": problem.prompt}]} for problem in problems]
    return {
        "model": step.model_path,
        "reward": "letters",
        "arguments": step.trainer_args,
        "rows": rows,
        "output": str(output),
    }


@pytest.mark.slow
@pytest.mark.parametrize("beta", ["0.04", "0.0"], ids=["with KL", "beta 0, KL tracked"])
def test_weights_equal_those_of_a_bare_script(
    beta: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(BARE.parent))
    monkeypatch.syspath_prepend(BARE.parent)
    assert main([*OVERRIDES, f"beta={beta}", "paths.run=ours"]) == 0
    folder = tmp_path / "ours" / "steps" / "01-grpo"
    job = job_of(read_step(folder), tmp_path / "bare")
    (tmp_path / "job.json").write_text(json.dumps(job))
    subprocess.run(
        [sys.executable, str(BARE), "job.json"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    ours = load_file(folder / "artifact" / "model.safetensors")
    bare = load_file(tmp_path / "bare" / "model.safetensors")
    start = load_file(Path(job["model"]) / "model.safetensors")
    assert ours.keys() == bare.keys()
    assert all(torch.equal(ours[name], bare[name]) for name in bare)
    assert any(not torch.equal(ours[name], start[name]) for name in ours)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all("kl" in row for row in rows if "reward" in row)
