"""Test that the architecture of every preset trains, with its own chat template: SFT, then GRPO from what that made."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_architecture_of_a_preset_trains_and_keeps_its_template(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.stage.presets_script", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [row["preset"] for row in found] == [
        "qwen3-0.6b", "llama-3.2-1b", "smollm2-135m", "smollm3-3b", "gemma-3-1b",
    ]  # fmt: skip
    for row in found:
        assert row["keeps template"], row
        assert row["rl"]["attention"] == "sdpa", row
        assert min(row["sft"]["rows"], row["rl"]["rows"]) >= 1, row
