"""Test that the estimate of `plan` is within 8 % of the allocator's peak in a real optimizer step on a CPU.

`plan` promises 15 %; 8 % is less than what gradient checkpointing or the dtype of the passes changes in this small model.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="float32"),
        pytest.param(["--compute=bfloat16", "--gradient-checkpointing"], id="mixed, with checkpointing"),
    ],
)
def test_the_estimate_is_near_the_measured_peak(options: list[str], tmp_path: Path) -> None:
    small = ["--device=cpu", "--shape=small", "--turns=1", f"--out={tmp_path}"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *small, *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    off = {name: row["r1exp"]["off"] for name, row in rows.items()}
    assert set(off) == {"sft", "grpo", "ppo"}
    assert all(abs(share) <= 0.08 for share in off.values()), off
