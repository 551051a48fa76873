"""Hostile submissions are contained and never scored as right.

A program of `ATTACKS` prints `done` only if its attack worked, and `done` is its expected output.
"""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from r1exp.sandbox.base import Case, CaseResult, Checker, Limits, Submission, Unavailable
from r1exp.sandbox.local import Local
from r1exp.sandbox.verdicts import run

Judge = Callable[[Submission, Sequence[Case], Limits], list[CaseResult] | Unavailable]
PACKAGE = Path(__file__).parents[2]

ATTACKS = {
    "fork bomb": ("timeout", """
        import os
        while True:
            try: os.fork()
            except OSError: pass
        """),
    "threads without end": ("crash", """
        import threading, time
        for _ in range(100): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()
        print("done")
        """),
    "memory bomb": ("memory", """
        kept = [bytearray(1 << 24) for _ in range(40)]
        print("done")
        """),
    "memory bomb of many processes": ("memory", """
        import os, time
        for _ in range(8):
            if os.fork() == 0: break
        kept = bytearray(1 << 26)
        time.sleep(1)
        print("done")
        """),
    "memory bomb in shared memory": ("memory", """
        import mmap
        kept = [mmap.mmap(-1, 1 << 24) for _ in range(20)]
        for area in kept: area.write(bytes(1 << 24))
        print("done")
        """),
    "memory that no limit counts": ("crash", "import os; os.memfd_create('x'); print('done')"),
    "ten gigabytes of output": ("crash", """
        import sys
        for _ in range(10_000): sys.stdout.write("x" * 1_000_000)
        """),
    "ten gigabytes of errors": ("crash", """
        import sys
        for _ in range(10_000): sys.stderr.write("x" * 1_000_000)
        print("done")
        """),
    "more files than the scratch directory holds": ("crash", """
        for name in range(40): open(str(name), "wb").write(bytes(1 << 20))
        print("done")
        """),
    "write outside of it": ("wrong", """
        import os
        written = []
        for folder in ["/", "/dev", "/dev/shm", "/etc", "/source", "/usr", "/usr/local", "/proc/1", "/root", "/var"]:
            try: open(os.path.join(folder, "mark"), "w"); written.append(folder)
            except OSError: pass
        print("done" if written else "no")
        """,
    ),
    "change its own source": ("crash", "import os; os.chmod('/source/main.py', 0o777); print('done')"),
    "read the accounts": ("crash", "open('/etc/passwd'); print('done')"),
    "read the home of root": ("crash", "import os; os.listdir('/root/.ssh'); print('done')"),
    "read through another process": ("crash", "open('/proc/1/root/etc/hostname'); print('done')"),
    "read the environment of its parents": ("wrong", """
        import os
        seen = "".join(os.environ)
        for pid in os.listdir("/proc"):
            try: seen += open(f"/proc/{pid}/environ").read()
            except OSError: pass
        print("done" if "R1EXP_SECRET" in seen else "no")
        """),
    "a socket": ("crash", "import socket; socket.socket(); print('done')"),
    "a socket to the host of a virtual machine": ("crash", "import socket; socket.socket(40, 1); print('done')"),
    "a user namespace": ("wrong", "import ctypes; print('done' if ctypes.CDLL(None).unshare(1 << 28) == 0 else 'no')"),
    "a process in a user namespace": ("wrong", """
        import ctypes, os, platform
        call = {"x86_64": 56, "aarch64": 220}[platform.machine()]
        pid = ctypes.CDLL(None).syscall(call, (1 << 28) | 17, 0, 0, 0, 0)
        if pid == 0: os._exit(0)
        print("done" if pid > 0 else "no")
        """),
    "more than the limits": ("crash", """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        print("done")
        """),
    "another user": ("crash", "import os; os.setuid(0); print('done')"),
    "kill its parents": ("wrong", """
        import os, signal
        for pid in (os.getppid(), 1):
            try: os.kill(pid, signal.SIGKILL)
            except OSError: pass
        print("still here")
        """),
    "kill all that it sees": ("crash", "import os; os.kill(-1, 9); os.kill(os.getpid(), 9)"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "source"), [pytest.param(*attack, id=name) for name, attack in ATTACKS.items()]
)
def test_an_attack_is_contained_and_scores_nothing(
    judge: Judge, limits: Limits, outcome: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R1EXP_SECRET", "x")
    began = time.monotonic()
    answer = judge(Submission("python", textwrap.dedent(source)), [Case("", "done")], limits)
    assert isinstance(answer, list), answer
    assert (answer[0].outcome, answer[0].score) == (outcome, 0.0), answer[0].detail
    assert time.monotonic() - began < 15


def _alive(mark: str) -> list[int]:
    """Return the processes, zombies aside, that have `mark` among their arguments."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    return [pid for pid in found if pid != os.getpid()]


ESCAPES = {
    "a daemon": """
        import os, sys, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for fd in (0, 1, 2): os.close(fd)
                os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)", MARK])
            os._exit(0)
        os.wait()
        time.sleep(0.2)
        print("started")
        """,
    "sleeping children": """
        import subprocess, sys, time
        for _ in range(6): subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", MARK])
        print("started")
        """,
    "children that ignore signals": """
        import signal, subprocess, sys
        sleeper = "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (1, 2, 15)]; time.sleep(60)"
        for _ in range(6): subprocess.Popen([sys.executable, "-c", sleeper, MARK], start_new_session=True)
        print("started", flush=True)
        subprocess.run(["/bin/sleep", "60"])
        """,
}  # fmt: skip


@pytest.mark.parametrize("source", [pytest.param(source, id=name) for name, source in ESCAPES.items()])
def test_no_process_that_a_submission_started_outlives_it(
    judge: Judge, impatient: Limits, source: str
) -> None:
    mark = f"r1exp-{time.time_ns()}"
    source = textwrap.dedent(source).replace("MARK", repr(mark))
    answer = judge(Submission("python", source), [Case("", "nothing of the kind")], impatient)
    assert isinstance(answer, list)
    assert answer[0].outcome in ("wrong", "timeout")
    assert not _alive(mark)


def test_a_tree_is_killed_when_the_judging_process_is_killed() -> None:
    mark = f"r1exp-{time.time_ns()}"
    judging = f"""
from r1exp.sandbox.base import *
from r1exp.sandbox.verdicts import run
from r1exp.sandbox.local import Local
source = "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(60)', {mark!r}])"
run(Local(), Submission("python", source), [Case("", "")], Limits(wall_seconds=60.0))
"""
    parent = subprocess.Popen([sys.executable, "-c", judging, "no mark"], cwd=PACKAGE)
    began = time.monotonic()
    while len(_alive(mark)) < 2 and time.monotonic() - began < 30:  # the judging process has the mark too
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    began = time.monotonic()
    while _alive(mark) and time.monotonic() - began < 5:
        time.sleep(0.02)
    assert not _alive(mark)


def test_a_server_on_loopback_gets_no_connection(judge: Judge, limits: Limits) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        source = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=1); print('done')"
        answer = judge(Submission("python", source), [Case("", "done")], limits)
        assert isinstance(answer, list)
        assert answer[0].outcome == "crash"
        with pytest.raises(TimeoutError):
            server.accept()


SEARCH = """
import os, sys
paths = [os.path.join(top, name) for top in ("/source", "/scratch", "/etc") for name in os.listdir(top)]
for pid in filter(str.isdigit, os.listdir("/proc")):
    paths += [f"/proc/{pid}/{name}" for name in ("environ", "cmdline", "mountinfo", "maps", "limits")]
paths += [f"/proc/self/fd/{fd}" for fd in (0, *range(3, 64))]
for path in paths:
    try:
        with open(path, "rb") as file: sys.stdout.write(file.read(100000).decode("latin-1"))
    except OSError: pass
"""


def test_a_submission_cannot_find_the_expected_output(judge: Judge, limits: Limits) -> None:
    """The submission prints all that it finds; the checker prints 1 if the expected output is in it."""
    checker = Checker(
        Submission("python", "import sys; print(int('the ' + 'expected' in open(sys.argv[3]).read()))")
    )
    finds_input = Checker(
        Submission("python", "import sys; print(int('the ' + 'input' in open(sys.argv[3]).read()))")
    )
    cases = [Case("the input", "the expected", checker), Case("the input", "the input", finds_input)]
    read_all = limits.model_copy(update={"output_kib": 8192})
    answer = judge(Submission("python", SEARCH), cases, read_all)
    assert isinstance(answer, list), answer
    assert [result.outcome for result in answer] == ["wrong", "passed"]


def test_the_first_process_of_a_tree_has_the_limits_and_the_filter(judge: Judge, limits: Limits) -> None:
    source = """
        limits = {line[:25].strip(): line[26:].split()[:2] for line in open("/proc/1/limits")}
        print(limits["Max address space"], limits["Max file size"], limits["Max core file size"])
        print([line.split()[1] for line in open("/proc/1/status") if line.startswith(("Seccomp:", "NoNewPrivs:"))])
        """
    address_space, file_size = str((128 + 256) << 20), str(16 << 20)
    expected = f"{[address_space] * 2} {[file_size] * 2} {['0'] * 2}\n{['1', '2']}"
    answer = judge(Submission("python", textwrap.dedent(source)), [Case("", expected)], limits)
    assert isinstance(answer, list)
    assert answer[0].outcome == "passed", answer[0]


def test_no_namespace_is_that_of_the_host(judge: Judge, limits: Limits) -> None:
    ours = {name: str(Path("/proc/self/ns", name).readlink()) for name in ("ipc", "mnt", "net", "pid", "uts")}
    source = f"import os; print([name for name in {list(ours)} if os.readlink('/proc/self/ns/' + name) in {ours}.values()])"
    answer = judge(Submission("python", source), [Case("", "[]")], limits)
    assert isinstance(answer, list)
    assert answer[0].outcome == "passed", answer[0]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param('#include "/etc/shadow"\nint main() {}', id="include a secret"),
        pytest.param('#include "/proc/self/environ"\nint main() {}', id="include the environment"),
        pytest.param('#include "/dev/zero"\nint main() {}', id="include without end"),
        pytest.param(
            "template<int N> struct A { A<N + 1> a; A<N + 2> b; }; A<0> a; int main() {}",
            id="templates without end",
        ),
        pytest.param("int main() { return 0; } char big[1 << 30] = {1};", id="a binary of one gigabyte"),
    ],
)
def test_the_compiler_is_contained(source: str, limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R1EXP_SECRET", "secret-value")
    quick = limits.model_copy(update={"compile_seconds": 2.0})
    answer = run(Local(), Submission("cpp", source), [Case("", "")], quick)
    assert isinstance(answer, list)
    assert answer[0].outcome in ("compile_error", "passed")  # an environment without text compiles
    assert "secret-value" not in answer[0].detail
