"""r1exp as process 1 of a container, for which the kernel ignores every signal without a handler."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

_SIGTERM_BIT = 1 << (signal.SIGTERM - 1)


def can_unshare() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, check=False).returncode == 0


@pytest.mark.slow
def test_sigterm_ends_a_command_that_is_process_one_before_its_first_step(tmp_path: Path) -> None:
    if not can_unshare():
        pytest.skip("needs the right to make a namespace of process ids")
    command = [
        sys.executable,
        "-m",
        "r1exp",
        "stage=sft",
        "tracking=none",
        "paths.run=run",
        "paths.store=store",
    ]
    with (tmp_path / "out").open("wb") as out:
        outer = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *command], cwd=tmp_path, stderr=out
        )
    try:
        end = time.monotonic() + 30.0
        while (first := process_one(outer.pid)) is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        os.kill(first, signal.SIGTERM)
        assert outer.wait(20.0) == 130
    finally:
        outer.kill()
        outer.wait()
    assert "interrupted" in (tmp_path / "out").read_text()


def process_one(outer: int) -> int | None:
    """Return the id of the child of `unshare` once it handles SIGTERM."""
    children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
    if not children:
        return None
    status = Path(f"/proc/{children[0]}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    is_python = b"r1exp" in Path(f"/proc/{children[0]}/cmdline").read_bytes()
    return int(children[0]) if is_python and caught & _SIGTERM_BIT else None
