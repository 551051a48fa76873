"""`model.revision` applies to the policy, its tokenizer and its reference. The hub's cache stands in for the hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.model.tiny import build_tiny

OVERRIDES = [
    "stage=rl", "model=hf", "model.path=someone/tiny", "model.revision=v2", "model.compute_dtype=float32", "beta=0.1",
    "model.rows_per_device.rl=4", "algorithm.prompts_per_step=2", "num_generations=2", "max_steps=1",
    "max_completion_length=8", "evaluation.before=false", "evaluation.after=false", "tracking=none", "paths.run=run",
]  # fmt: skip


def put_into_cache(cache: Path, revisions: dict[str, int]) -> None:
    """Write a hub cache with revisions of someone/tiny whose weights have different seeds."""
    repository = cache / "models--someone--tiny"
    for revision, seed in revisions.items():
        with session():
            settings = experiment_from(["stage=sft", f"model.init_seed={seed}"]).steps[0].config.model
        commit = str(seed) * 40
        build_tiny(settings, repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commit)


@pytest.mark.slow
def test_the_reference_has_the_revision_of_the_policy(tmp_path: Path) -> None:
    put_into_cache(tmp_path / "home" / "hub", {"main": 1, "v2": 2})
    done = subprocess.run(
        [sys.executable, "-m", "r1exp", *OVERRIDES], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    first = json.loads((tmp_path / "run/steps/01-grpo/metrics.jsonl").read_text().splitlines()[0])
    assert first["kl"] == pytest.approx(0.0, abs=1e-7)  # before the first optimizer step
