"""A forked process is like a fresh one, and nothing that it starts outlives it, whichever process is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from r1exp.launcher import fork_client, fork_server, keeper
from r1exp.launcher.fork_client import ForkedTree, fork_servers, start_server
from r1exp.launcher.process_tree import ProcessTree
from r1exp.launcher.torchrun import report_of, root_cause

# A server without libraries, whose requests are Python code.
SERVER = """
import socket, sys
from pathlib import Path
from r1exp.launcher.fork_server import leave, serve
served = []
request = serve(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]), (int(sys.argv[3]), int(sys.argv[4])))
code = 0
try:
    exec(request.arguments[0])
except SystemExit as error:
    code = error.code
leave(code)
"""
# A process with a child in a session of its own, which starts Python again; both ignore SIGTERM.
FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-S", "-c", "import signal, time; signal.signal(15, 1); time.sleep(600)"], start_new_session=True)
open("pids.new", "w").write(f"{os.getpid()} {child.pid}")
os.rename("pids.new", "pids")
time.sleep(600)
"""
COMMAND = """
import os, sys, time
from pathlib import Path
from r1exp.launcher import fork_client
fork_client.ENTRY = (sys.argv[1],)
with fork_client.fork_servers(), open("log", "ab") as log:
    Path("folder").write_text(os.environ[fork_client.VARIABLE])
    tree = fork_client.ForkedTree([sys.argv[2]], os.environ, log, False)
    while tree.poll() is None:
        time.sleep(0.02)
"""


# Two ranks, of which the second is killed, and their agent.
RANKS = """
import os, signal, socket, time
from r1exp.launcher import keeper
from r1exp.launcher.forked_ranks import _Agent
listener = socket.create_server(("127.0.0.1", 0))
first = keeper.fork_bound() or time.sleep(600)
second = keeper.fork_bound() or os.kill(os.getpid(), signal.SIGKILL)
print(first, second, flush=True)
_Agent({first: 0, second: 1}).watch("127.0.0.1", listener)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the working directory of a process that may start servers without libraries."""
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    monkeypatch.setattr(fork_client, "ENTRY", (str(script),))
    monkeypatch.delenv(fork_client.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    with fork_servers():
        yield tmp_path


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def started(code: str, **variables: str) -> ForkedTree:
    with Path("log").open("ab") as log:
        tree = ForkedTree([code], {**os.environ, **variables}, log, uses_deepspeed=False)
    wait_for(lambda: not tree.starts())
    return tree


def ended(code: str, **variables: str) -> tuple[int | None, str]:
    """Return the exit status of a process and what it printed."""
    Path("log").unlink(missing_ok=True)
    status = started(code, **variables).wait(20.0)
    return status, Path("log").read_text()


def servers() -> list[int]:
    folder = Path(os.environ[fork_client.VARIABLE])
    return [int(path.read_text().split()[0]) for path in folder.glob("*.pid")]


def family() -> list[int]:
    wait_for(Path("pids").exists)
    return [int(pid) for pid in Path("pids").read_text().split()]


def is_gone(pids: list[int]) -> bool:
    return all(keeper.ticks_of(pid) is None for pid in pids)


def test_a_forked_process_has_the_environment_and_the_folder_of_the_one_that_requests_it(
    place: Path,
) -> None:
    start_server(os.environ, uses_deepspeed=False)
    other = place / "other"
    other.mkdir()
    code = "print(open(0).read() == '', dict(__import__('os').environ).get('R1EXP_ONE'), __import__('os').getcwd(), flush=True)"
    assert ended(code, R1EXP_ONE="1") == (0, f"True 1 {place}\n")
    assert ended(code, R1EXP_ONE="2") == (0, f"True 2 {place}\n")
    assert len(servers()) == 1
    assert ended("print('HOME' in __import__('os').environ)", EARLY="1")[0] == 0
    assert len(servers()) == 2  # a library may have read EARLY when it was imported


def test_a_forked_process_uses_the_cores_of_the_one_that_requests_it(place: Path) -> None:
    del place
    before = os.sched_getaffinity(0)
    start_server(os.environ, uses_deepspeed=False)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert ended("print(__import__('os').sched_getaffinity(0))") == (0, f"{ {min(before)} }\n")
    finally:
        os.sched_setaffinity(0, before)


def test_what_one_process_changes_is_not_seen_by_the_next(place: Path) -> None:
    del place
    assert ended("served.append(1); print(served); raise SystemExit(3)") == (3, "[1]\n")
    assert ended("served.append(2); print(served)") == (0, "[2]\n")


def test_a_process_that_is_killed_leaves_the_server_serving(place: Path) -> None:
    del place
    assert ended("import os; os.kill(os.getpid(), 9)")[0] == -signal.SIGKILL
    assert ended("import os; os.abort()")[0] == -signal.SIGABRT
    (server,) = servers()
    assert ended("print(1)") == (0, "1\n")
    assert servers() == [server]


def test_a_killed_keeper_leaves_nothing(place: Path) -> None:
    del place
    tree = started(FAMILY)
    pids = family()
    wait_for(lambda: tree.poll() is None and len(tree._recorded) >= 2)
    os.kill(tree.keeper_pid, signal.SIGKILL)
    assert tree.wait(20.0) == -signal.SIGKILL
    assert is_gone(pids)


def test_the_end_of_a_step_ends_what_it_started(place: Path) -> None:
    del place
    tree = started(FAMILY)
    pids = family()
    tree.end()
    assert is_gone(pids)


def test_a_killed_server_leaves_its_steps_running_and_is_replaced(place: Path) -> None:
    del place
    tree = started(
        "import time\nwhile not __import__('os').path.exists('go'): time.sleep(0.02)\nprint('went')"
    )
    (server,) = servers()
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: is_gone([server]))
    assert started("raise SystemExit(5)").wait(20.0) == 5
    assert tree.poll() is None
    Path("go").touch()
    assert tree.wait(20.0) == 0


def test_a_server_that_dies_before_it_answers_is_noticed(place: Path) -> None:
    (place / "server.py").write_text("raise SystemExit('broken')")
    tree = started("print(1)")
    assert (tree.pid, tree.returncode) == (0, -signal.SIGKILL)
    assert fork_client.last_output() == "broken"


def test_a_step_that_is_ended_before_it_was_forked_does_not_start(place: Path) -> None:
    (place / "server.py").write_text(f"import time; time.sleep(1.0)\n{SERVER}")
    with Path("log").open("ab") as log:
        tree = ForkedTree(["open('started', 'w')"], os.environ, log, uses_deepspeed=False)
    assert tree.end() == -signal.SIGKILL  # at once
    assert started("print(1)").wait(20.0) == 0
    assert not (place / "started").exists()


def test_a_killed_command_leaves_neither_processes_nor_a_server(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(fork_client.VARIABLE)
    command = subprocess.Popen([sys.executable, "-c", COMMAND, str(place / "server.py"), FAMILY])
    pids = family()
    folder = Path((place / "folder").read_text())
    (server,) = [int(path.read_text().split()[0]) for path in folder.glob("*.pid")]
    command.kill()
    command.wait()
    wait_for(lambda: is_gone([*pids, server]))
    wait_for(lambda: not folder.exists())


def test_a_server_whose_owner_was_killed_ends_while_it_still_imports(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from r1exp.launcher.fork_server import ending_with
with ending_with(Path(sys.argv[1]), (int(sys.argv[2]), int(sys.argv[3]))):
    print("imports", flush=True)
    time.sleep(600)
"""
    path = tmp_path / "servers" / "socket"
    path.parent.mkdir()
    path.touch()
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as owner:
        command = [sys.executable, "-c", script, str(path), str(owner.pid), str(keeper.ticks_of(owner.pid))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "imports\n"
            owner.kill()
            owner.wait()
            try:
                assert server.wait(30) == 0
            finally:
                server.kill()
    assert not path.parent.exists()


def test_a_server_imports_on_while_its_owner_runs(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.touch()
    own = keeper.ticks_of(os.getpid())
    assert own is not None
    before = signal.getsignal(signal.SIGALRM)
    with fork_server.ending_with(path, (os.getpid(), own)):
        assert signal.getitimer(signal.ITIMER_REAL)[1] > 0
        signal.raise_signal(signal.SIGALRM)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before


def test_the_servers_of_a_command_end_with_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del place
    monkeypatch.delenv(fork_client.VARIABLE)
    with fork_servers():
        folder = Path(os.environ[fork_client.VARIABLE])
        with fork_servers():  # as a run within a sweep
            assert os.environ[fork_client.VARIABLE] == str(folder)
        assert ended("print(1)")[0] == 0
        running = servers()
    assert is_gone(running)
    assert not folder.exists()
    assert fork_client.VARIABLE not in os.environ


def test_a_changed_source_file_gets_a_new_server(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = place / "package"
    source.mkdir()
    (source / "rewards.py").write_text("one = 1")
    monkeypatch.setattr(fork_client, "_PACKAGE", source)
    assert ended("print(1)")[0] == 0
    (source / "rewards.py").write_text("one = 1.0")
    assert ended("print(1)")[0] == 0
    assert len(servers()) == 2


def test_memory_of_a_forked_process_is_given_back(place: Path) -> None:
    del place
    assert ended("print(1)")[0] == 0
    (server,) = servers()

    def resident() -> int:
        return int(Path(f"/proc/{server}/statm").read_text().split()[1])

    before = resident()
    for _ in range(3):
        assert ended("held = bytearray(range(256)) * (1 << 18)")[0] == 0  # 64 MiB
    assert resident() - before < 1 << 11  # pages: 8 MiB


def test_a_forked_process_ends_as_a_fresh_one(place: Path) -> None:
    code = (
        "import atexit, threading, time\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\n"
        "atexit.register(print, 'exit handler')\n"
        "kept = open('kept', 'w'); globals()['own'] = kept; kept.write('text')\n"
        "raise SystemExit(4)"
    )
    assert ended(code) == (4, "thread\nexit handler\n")
    assert (place / "kept").read_text() == "text"


def test_no_server_is_started_where_it_is_off(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del place
    monkeypatch.setenv(fork_client.VARIABLE, "off")
    with fork_servers():
        assert os.environ[fork_client.VARIABLE] == "off"
        assert fork_client.is_off()


def test_the_report_of_forked_ranks_is_read_as_that_of_torchrun() -> None:
    found = root_cause("1 | step\n" + report_of(rank=3, exit_code=-9, pid=4711))
    assert found is not None
    assert (found.rank, found.exit_code, found.pid) == (3, -9, 4711)


@pytest.mark.slow  # imports torch
def test_the_other_ranks_are_ended_when_one_is_killed_and_it_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RANKS], capture_output=True, text=True, timeout=120, check=False
    )
    first, second = map(int, done.stdout.split())
    found = root_cause(done.stderr)
    assert done.returncode == 1
    assert found is not None
    assert (found.rank, found.exit_code, found.pid) == (1, -signal.SIGKILL, second)
    assert is_gone([first, second])


def test_both_kinds_of_trees_end_alike(place: Path) -> None:
    del place
    tree = ProcessTree([sys.executable, "-S", "-c", "raise SystemExit(6)"], os.environ)
    assert tree.wait(20.0) == 6
    assert started("raise SystemExit(6)").wait(20.0) == 6
