"""Nothing that a command starts outlives it, whichever process is killed: the command, the keeper or the parent."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.launcher import keeper
from r1exp.launcher.process_tree import ProcessTree

# A command with a child in a session of its own and a grandchild whose parent has ended; they write their ids, share
# 64 KiB of memory, and ignore SIGTERM.
COMMAND = """
import os, signal, subprocess, sys, time
from multiprocessing import resource_tracker, shared_memory
resource_tracker.register = lambda *arguments: None  # as a process that was killed: nobody removes the segment
folder = sys.argv[1]
signal.signal(signal.SIGTERM, signal.SIG_IGN)
segment = shared_memory.SharedMemory(create=True, size=1 << 16)
open(folder + "/segment", "w").write(segment.name)
def started(name):
    open(folder + "/" + name, "w").write(str(os.getpid()))
    os.rename(folder + "/" + name, folder + "/pid-" + name)
started("command")
if os.fork() == 0:
    os.setsid()
    started("child")
    if os.fork() == 0:
        if os.fork() != 0:
            os._exit(0)
        os.setsid()
        started("orphan")
    time.sleep(600)
time.sleep(float(sys.argv[2]))
os._exit(7)
"""
PARENT = """
import os, sys, time
from r1exp.launcher.process_tree import ProcessTree
tree = ProcessTree([sys.executable, "-c", *sys.argv[1:]], os.environ)
open(sys.argv[2] + "/keeper", "w").write(str(tree.keeper_pid))
os.rename(sys.argv[2] + "/keeper", sys.argv[2] + "/pid-keeper")
while tree.poll() is None:
    time.sleep(0.05)
"""
KINDS = ("command", "child", "orphan")


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def pids(folder: Path) -> dict[str, int]:
    """Return the ids of the processes once all of them have started."""
    wait_for(lambda: all((folder / f"pid-{kind}").exists() for kind in KINDS))
    return {path.name.removeprefix("pid-"): int(path.read_text()) for path in folder.glob("pid-*")}


def is_left(folder: Path) -> list[str]:
    """Return the kinds of the processes that run, and the segment if it exists."""
    found = [kind for kind in KINDS if keeper.ticks_of(int((folder / f"pid-{kind}").read_text())) is not None]
    segment = Path(keeper.SHARED) / (folder / "segment").read_text()
    return found + (["segment"] if segment.exists() else [])


def tree_in(folder: Path, seconds: float = 600.0) -> ProcessTree:
    return ProcessTree([sys.executable, "-c", COMMAND, str(folder), str(seconds)], os.environ, grace=0.3)


def test_what_a_command_left_ends_with_it_and_its_exit_status_is_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tree_in(tmp_path, 0.5)
    pids(tmp_path)
    assert tree.wait(15.0) == 7
    assert is_left(tmp_path) == []


@pytest.mark.parametrize("victim", KINDS)
def test_nothing_is_left_when_a_process_is_killed_and_the_command_ends(victim: str, tmp_path: Path) -> None:
    tree = tree_in(tmp_path)
    os.kill(pids(tmp_path)[victim], signal.SIGKILL)
    if victim == "command":
        assert tree.wait(10.0) == -signal.SIGKILL
    else:
        tree.end()
    assert is_left(tmp_path) == []


def test_nothing_is_left_when_the_keeper_is_killed(tmp_path: Path) -> None:
    tree = tree_in(tmp_path)
    pids(tmp_path)
    os.kill(tree.keeper_pid, signal.SIGKILL)
    assert tree.wait(10.0) == -signal.SIGKILL
    assert is_left(tmp_path) == []


def test_nothing_is_left_when_the_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, COMMAND, tmp_path, "600"])
    pids(tmp_path)
    parent.kill()  # and stays a zombie until the end of this test
    wait_for(lambda: is_left(tmp_path) == [])
    parent.wait()


def test_the_segments_of_a_keeper_that_was_killed_with_its_parent_are_removed_by_the_next(
    tmp_path: Path,
) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, COMMAND, tmp_path, "600"])
    started = pids(tmp_path)
    wait_for((tmp_path / "pid-keeper").exists)
    wait_for(
        lambda: list(Path(keeper.SHARED).glob(f"{keeper.RECORD}{(tmp_path / 'pid-keeper').read_text()}-*"))
    )
    time.sleep(0.1)  # until the name is in it
    for pid in (parent.pid, int((tmp_path / "pid-keeper").read_text()), *started.values()):
        os.kill(pid, signal.SIGKILL)
    parent.wait()
    wait_for(lambda: is_left(tmp_path) == ["segment"])
    assert ProcessTree(["true"], os.environ).wait(10.0) == 0
    assert is_left(tmp_path) == []


def test_the_segment_of_another_program_is_kept(tmp_path: Path) -> None:
    other = Path(keeper.SHARED) / f"r1exp-test-{os.getpid()}"
    tree = tree_in(tmp_path)
    pids(tmp_path)
    try:
        other.write_bytes(b"x")
        time.sleep(0.3)
        tree.end()
        assert other.exists()
        assert is_left(tmp_path) == []
    finally:
        other.unlink()


def test_a_command_that_does_not_exist_ends_with_status_127(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        assert ProcessTree(["/no/such/command"], os.environ, log).wait(10.0) == 127
    assert (tmp_path / "log").read_text() == "/no/such/command: No such file or directory\n"


def test_a_keeper_needs_the_standard_library_only() -> None:
    script = textwrap.dedent("""
        import runpy, sys
        runpy.run_path(sys.argv[1], run_name="imported")
        print(*(name for name in sys.modules if name.startswith(("r1exp", "psutil"))))
    """)
    command = [sys.executable, "-I", "-S", "-c", script, keeper.__file__]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "\n"
