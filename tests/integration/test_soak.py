"""Three minutes of `benchmarks/soak.py`: runs under random kills, full disks and read-only moments come back equal."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"
SCENARIOS = "single,ddp,sweep,twins,pipeline,endpoint"


@pytest.mark.slow
@pytest.mark.integration
def test_runs_that_are_killed_at_random_moments_come_back_equal_and_leave_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(SOAK), "--minutes=3", "--seed=3", "--cores=2", f"--only={SCENARIOS}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV_")}
    done = subprocess.run(
        [*command, f"--folder={tmp_path / 'soak'}"], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    found = re.search(r"\| all \| \| (\d+) \| (\d+) \|", done.stdout)
    assert found is not None and found[1] == found[2] != "0", done.stdout
