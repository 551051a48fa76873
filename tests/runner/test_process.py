"""The environment of a step's processes."""

import sys
from pathlib import Path

import pytest

from r1exp.launcher.base import Launch
from r1exp.runner.process import run_process

SCRIPT = "import os; print(*sorted(name for name in os.environ if name in ('RANK', 'MASTER_PORT', 'CHOSEN', 'KEPT')))"


def test_a_step_does_not_inherit_the_rank_variables_of_an_outer_torchrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "MASTER_PORT", "KEPT"):
        monkeypatch.setenv(name, "1")
    launch = Launch((sys.executable, "-c", SCRIPT), {"CHOSEN": "1"}, {})
    assert run_process(launch, tmp_path, lambda: None) == 0
    assert (tmp_path / "log.txt").read_text().split() == ["CHOSEN", "KEPT"]
