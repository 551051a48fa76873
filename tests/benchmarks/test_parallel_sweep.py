"""A sweep that runs side by side and is killed completes with what was missing, with the digits of one after the other."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "parallel_sweep.py"


@pytest.mark.slow
def test_a_killed_sweep_of_six_completes_with_the_same_digits(tmp_path: Path) -> None:
    line = [
        sys.executable,
        str(SCRIPT),
        "--short",
        "--members=6",
        "--parallel=2",
        f"--folder={tmp_path / 'sweeps'}",
    ]
    done = subprocess.run(line, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "one after the other: 3 steps executed, 3 different" in done.stdout
    assert "artifacts that differ: none (of 6)" in done.stdout
    assert "rows of sweep.json that differ: none (of 6)" in done.stdout
