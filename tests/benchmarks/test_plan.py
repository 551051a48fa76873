"""benchmarks/plan.py compares two checkouts side by side."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def compare(against: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Return what the script did."""
    command = [sys.executable, str(ROOT / "benchmarks" / "plan.py"), f"--against={against}", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_the_times_ratios_and_counts_of_both_checkouts_are_printed() -> None:
    done = compare(ROOT, "--pairs=1", "stage=rl")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [*(["r1exp", "this", "other", "ratio"] * 2), "plan", "plan"]
    assert lines[0] == "r1exp plan stage=rl: median of 1 processes (range)"
    assert "1 compositions" in lines[-1]


def test_a_folder_without_the_package_is_refused(tmp_path: Path) -> None:
    done = compare(tmp_path)
    assert done.returncode == 1
    assert "is no checkout of r1exp" in done.stderr
