"""Rejection sampling: SFT, answers of that policy, and SFT of the base model on those that were kept."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PIPELINE = """
focus: refine
steps:
  sft: {use: {stage: sft}}
  sample: {use: {stage: sample, rewards: strict}, set: {stage.samples: 4, stage.keep: 2}}
  refine:
    use: {stage: sft, dataset: jsonl}
    set: {dataset.num_test: 0, stage.rows_per_step: 1}
    model_from: base
    data_from: sample
"""
LINE = [
    "pipeline=rejection", "debug=fast", "tracking=none", "evaluation.before=false", "evaluation.after=false",
    "launcher.threads_per_process=1", "paths.run=run",
]  # fmt: skip


@pytest.mark.slow
def test_sft_learns_from_the_answers_that_were_kept(tmp_path: Path) -> None:
    """Of a policy that solved nothing, a debug run keeps wrong answers; tests/stage/test_selection.py has the choice itself."""
    (tmp_path / "own" / "pipeline").mkdir(parents=True)
    (tmp_path / "own" / "pipeline" / "rejection.yaml").write_text(PIPELINE)
    done = subprocess.run(
        [sys.executable, "-m", "r1exp", "--config-dir=own", *LINE],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    artifact = tmp_path / "run" / "steps" / "02-sample" / "artifact"
    facts = json.loads((artifact / "facts.json").read_text())
    rows = [json.loads(line) for line in (artifact / "data.jsonl").read_text().splitlines()]
    assert len(rows) == facts["num_written"] >= 1
    assert facts["num_problems_kept"] + facts["num_unsolved"] == facts["num_problems"]
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(row["solution"] for row in rows)
    assert (tmp_path / "run" / "steps" / "03-refine" / "artifact" / "model.safetensors").exists()
