"""Whether a process was killed for lack of memory."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1exp.launcher import kills
from r1exp.launcher.kills import Kills
from r1exp.launcher.torchrun import LostNode, lost_node

RECORD = "6,99,{at},-;{start}ut of memory: Killed process 4711 (python) total-vm:10kB, anon-rss:5kB\n SUBSYSTEM=x\n"
GREEDY = "import os, sys; sys.stdin.read(); held = bytearray(os.urandom(1 << 20)) * 200"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file in the place of the kernel's log; unlike that, it gives several records at once, and then none."""
    path = tmp_path / "kmsg"
    monkeypatch.setattr(kills, "_LOG", path)
    return path


@pytest.mark.parametrize(
    ("start", "what"),
    [
        pytest.param("Memory cgroup o", "because its cgroup had no memory left", id="the limit of a cgroup"),
        pytest.param("O", "because the machine had no memory left", id="the machine"),
    ],
)
def test_the_kernels_log_names_the_process(start: str, what: str, log: Path) -> None:
    seen = Kills()
    log.write_text(RECORD.format(at=int(time.monotonic() * 1e6), start=start))
    assert what in seen.why(4711, is_here=True)
    assert seen.why(4712, is_here=True) == "; not for lack of memory, which the kernel's log would say"
    assert "see dmesg there" in seen.why(4711, is_here=False)


def test_a_kill_before_the_start_does_not_count(log: Path) -> None:
    log.write_text(RECORD.format(at=int((time.monotonic() - 60.0) * 1e6), start="O"))
    assert "because" not in Kills().why(4711, is_here=True)


def test_a_log_that_is_not_readable_is_said(log: Path) -> None:
    assert "may have run out of memory (see dmesg there)" in Kills().why(1, is_here=True)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """Return a cgroup of 64 MiB."""
    folder = Path("/sys/fs/cgroup/memory") / f"r1exp-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("needs root and version 1 of cgroups")
    (folder / "memory.limit_in_bytes").write_text(str(64 << 20))
    yield folder
    folder.rmdir()


def test_a_process_that_the_kernel_really_kills_is_explained(cgroup: Path) -> None:
    seen = Kills()
    process = subprocess.Popen([sys.executable, "-c", GREEDY], stdin=subprocess.PIPE)
    (cgroup / "cgroup.procs").write_text(str(process.pid))
    process.communicate(b"")
    assert process.returncode == -9
    why = seen.why(process.pid, is_here=True)
    assert (
        why.startswith(", because its cgroup had no memory left, says the kernel's log") or "see dmesg" in why
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("srun: error: Node failure on n2", LostNode("n2", "srun: Node failure"), id="a node"),
        pytest.param(
            "srun: error: n3: task 1: Killed", LostNode("n3", "srun: task 1: Killed"), id="its task"
        ),
        pytest.param("srun: error: n3: task 1: Exited with exit code 1", None, id="a rank that failed"),
    ],
)
def test_srun_names_the_node_that_was_lost(line: str, expected: LostNode | None) -> None:
    assert lost_node(f"before\n{line}\nafter\n") == expected
