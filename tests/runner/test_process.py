"""The environment of a step's processes, and how they recognize their parent."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r1exp.launcher.base import Launch
from r1exp.launcher.keeper import ticks_of
from r1exp.runner.process import parent_is_gone, parent_mark, run_process

SCRIPT = "import os; print(*sorted(name for name in os.environ if name in ('RANK', 'MASTER_PORT', 'CHOSEN', 'KEPT')))"


def test_a_step_does_not_inherit_the_rank_variables_of_an_outer_torchrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "MASTER_PORT", "KEPT"):
        monkeypatch.setenv(name, "1")
    launch = Launch((sys.executable, "-c", SCRIPT), {"CHOSEN": "1"}, {})
    assert run_process(launch, tmp_path, lambda: None) == 0
    assert (tmp_path / "log.txt").read_text().split() == ["CHOSEN", "KEPT"]


def test_a_parent_is_recognized_by_clock_ticks_since_boot() -> None:
    """A time of day would move with the clock, which ended every rank when it was set."""
    assert parent_mark() == f"{os.getpid()}:{ticks_of(os.getpid())}"
    assert not parent_is_gone(parent_mark())
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    assert parent_mark().endswith(f":{fields[19]}")  # field 22: an integer, whatever the clock says
    assert parent_is_gone(f"{os.getpid()}:{int(fields[19]) + 1}")  # another process with the same id


def test_a_parent_that_nobody_waited_for_is_gone() -> None:
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = f"{parent.pid}:{ticks_of(parent.pid)}"
    assert not parent_is_gone(mark)
    parent.kill()
    end = time.monotonic() + 5.0
    while Path(f"/proc/{parent.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < end
    assert parent_is_gone(mark)
    parent.communicate()
    assert parent_is_gone(mark)


def test_a_command_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-srun"):
        run_process(Launch(("no-such-srun",), {}, {}), tmp_path, lambda: None)
