"""One isolated run from start to end: spawned, watched against its limits, killed as a tree, collected.

The watch looks every few milliseconds at wall time, at the CPU time, memory and number of all processes
of the tree, and at every byte of output. The kernel bounds each single process by itself (prlimit), so
a slow watch can only be late, not absent.
"""

import fcntl
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from r1exp.sandbox import bubblewrap, seccomp
from r1exp.sandbox.base import Execution, Limits, SandboxDownError

_FIRST_LOOK, _BETWEEN_LOOKS = 0.050, 0.020  # seconds; most programs end before the first
_TICKS = os.sysconf("SC_CLK_TCK")  # per second; how /proc counts CPU time
_OWN_PROCESSES = 4  # bwrap, its child, and commands in front of the program
_STDERR_TAIL = 4096  # bytes
_CHUNK = 1 << 16  # bytes
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_OUT_OF_MEMORY = (b"MemoryError", b"std::bad_alloc", b"Cannot allocate memory", b"out of memory")


@contextmanager
def in_memory(content: bytes) -> Iterator[int]:
    """Give a file descriptor with `content` that nobody can change, at position 0."""
    descriptor = os.memfd_create("r1exp", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, and with what."""

    program: list[str]
    limits: Limits
    prefix: str  # folder of the Python that must be visible
    stdin: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)  # absolute path inside -> content
    stack_mib: int | None = None  # None: the system's own


@dataclass(slots=True)
class _Watched:
    """A tree while it runs."""

    process: subprocess.Popen[bytes]
    job: Job
    started: float
    gate: int  # file descriptor: a byte here lets the program start
    tree: tuple[int, int] | None = None  # the tree's pid 1 as the host sees it, and a pidfd for it
    broken: str | None = None  # the first limit that was broken
    num_bytes: int = 0
    cpu_seconds: float = 0.0
    stdout: list[bytes] = field(default_factory=list)
    stderr: bytes = b""
    status: bytes = b""

    @property
    def limits(self) -> Limits:
        return self.job.limits

    def kill(self, reason: str | None = None) -> None:
        """Kill all of it: a pid 1 takes its tree along."""
        self.broken = self.broken or reason
        if self.tree is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.tree[1], signal.SIGKILL)
        self.process.kill()  # whose child was told to die with it

    def take(self, name: str, data: bytes) -> None:
        """Keep what came out of a pipe."""
        if name == "status":
            self.status += data
            if self.tree is None and b"\n" in self.status:
                self._admit(json.loads(self.status.split(b"\n")[0])["child-pid"])
            return
        self.num_bytes += len(data)
        if self.num_bytes > self.limits.output_kib * 1024:
            self.kill("output")
        elif name == "stdout":
            self.stdout.append(data)
        else:
            self.stderr = (self.stderr + data)[-_STDERR_TAIL:]

    def _admit(self, first_pid: int) -> None:
        """Put limits on the tree's pid 1, and only then let it go on."""
        try:
            self.tree = first_pid, os.pidfd_open(first_pid)
            bubblewrap.bound(first_pid, self.limits, self.job.stack_mib)
            os.write(self.gate, b"\n")
        except (ProcessLookupError, BrokenPipeError):
            return  # dead already; what it said explains it
        except OSError as error:
            raise SandboxDownError(f"no limits can be put on a process here: {error}") from error

    def look(self) -> None:
        """Compare what the tree uses with what it may use."""
        if time.monotonic() - self.started > self.limits.wall_seconds:
            self.kill("wall time")
        if self.tree is None:
            return
        num_processes, memory_kib, cpu_seconds = _usage(self.tree[0])
        self.cpu_seconds = max(self.cpu_seconds, cpu_seconds)
        if self.cpu_seconds > self.limits.cpu_seconds:
            self.kill("CPU time")
        if memory_kib > self.limits.memory_mib * 1024:
            self.kill("memory")
        if num_processes > self.limits.num_processes + _OWN_PROCESSES:
            self.kill("parallelism")


def _usage(root: int) -> tuple[int, int, float]:
    """Return the number of processes below and including `root`, their memory in KiB, and CPU seconds.

    Anonymous and shared memory only: code pages of libraries are everybody's. CPU seconds of dead
    processes are in the account of whoever waited for them.
    """
    waiting, num_processes, memory_kib, ticks = [root], 0, 0, 0
    while waiting:
        folder = Path("/proc", str(waiting.pop()))
        try:
            status, stat = (folder / "status").read_bytes(), (folder / "stat").read_bytes()
            for task in (folder / "task").iterdir():
                waiting += [int(pid) for pid in (task / "children").read_bytes().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        num_processes += 1
        ticks += sum(int(word) for word in stat.rpartition(b")")[2].split()[11:15])  # own, waited for
        for line in status.splitlines():
            if line.startswith((b"RssAnon:", b"RssShmem:")):
                memory_kib += int(line.split()[1])
    return num_processes, memory_kib, ticks / _TICKS


def run(job: Job) -> tuple[Execution, bytes]:
    """Run `job` to its end and return what happened, with stdout as bytes too. Nothing survives the call."""
    with ExitStack() as stack:
        who = stack.enter_context(bubblewrap.identity())
        files = {path: stack.enter_context(in_memory(data)) for path, data in job.files.items()}
        filter_fd = stack.enter_context(in_memory(seccomp.program()))
        stdin_fd = stack.enter_context(in_memory(job.stdin))
        (status, status_end), (gate_end, gate) = os.pipe(), os.pipe()
        for descriptor in (status, gate):
            stack.callback(os.close, descriptor)
        inherited = bubblewrap.Descriptors(files, filter_fd, status_end, gate_end)
        try:
            process = subprocess.Popen(
                bubblewrap.command(who, job.limits, job.prefix, inherited, job.program),
                stdin=stdin_fd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                pass_fds=[*files.values(), filter_fd, status_end, gate_end], env=bubblewrap.ENVIRONMENT,
            )  # fmt: skip
        finally:
            os.close(status_end)
            os.close(gate_end)
        watched = _Watched(process, job, time.monotonic(), gate)
        try:
            _watch(watched, status)
        finally:  # also when this thread is interrupted
            _bury(watched)
        return _conclude(watched)


def _watch(watched: _Watched, status_read: int) -> None:
    """Read and look until every pipe is closed and the tree's pid 1, the last of the tree, is dead."""
    stdout, stderr = watched.process.stdout, watched.process.stderr
    assert stdout is not None and stderr is not None
    names = {status_read: "status", stdout.fileno(): "stdout", stderr.fileno(): "stderr"}
    poll = select.poll()
    for descriptor in names:
        poll.register(descriptor, select.POLLIN)
    next_look = watched.started + _FIRST_LOOK
    while names:
        for descriptor, _ in poll.poll(max(next_look - time.monotonic(), 0) * 1000):
            data = b"" if names[descriptor] == "tree" else os.read(descriptor, _CHUNK)
            if not data:
                poll.unregister(descriptor)
                del names[descriptor]
                continue
            unknown = watched.tree is None
            watched.take(names[descriptor], data)
            if unknown and watched.tree is not None:
                names[watched.tree[1]] = "tree"
                poll.register(watched.tree[1], select.POLLIN)
        if time.monotonic() >= next_look:
            watched.look()
            next_look = time.monotonic() + _BETWEEN_LOOKS


def _bury(watched: _Watched) -> None:
    """Make sure that all of it is dead."""
    watched.kill()
    watched.process.wait()
    for pipe in (watched.process.stdout, watched.process.stderr):
        assert pipe is not None
        pipe.close()
    if watched.tree is not None:
        select.select([watched.tree[1]], [], [])
        os.close(watched.tree[1])


def _conclude(watched: _Watched) -> tuple[Execution, bytes]:
    reports = [json.loads(line) for line in watched.status.splitlines()]
    exit_code = next((report["exit-code"] for report in reports if "exit-code" in report), None)
    said = watched.stderr.decode(errors="replace")
    if watched.broken is None and exit_code is None:
        if not reports or watched.process.returncode != -signal.SIGKILL:
            raise SandboxDownError(f"bubblewrap did not start: {said.strip()[-300:] or 'no message'}")
        watched.broken = "memory"  # nobody but the kernel kills it, and only for that
    ended, why = _ending(watched, exit_code)
    stdout, wall_seconds = b"".join(watched.stdout), time.monotonic() - watched.started
    execution = Execution(
        ended, exit_code or 0, stdout.decode(errors="replace"), why or said, watched.cpu_seconds, wall_seconds
    )
    return execution, stdout


def _ending(
    watched: _Watched, exit_code: int | None
) -> tuple[Literal["exited", "timeout", "memory", "crash"], str]:
    """Return how it ended and which limit it broke ("" for none)."""
    limits, broken = watched.limits, watched.broken
    killed_by_kernel = exit_code == 128 + signal.SIGKILL and watched.cpu_seconds > 0.8 * limits.cpu_seconds
    if broken == "CPU time" or killed_by_kernel:
        return "timeout", f"more than {limits.cpu_seconds:g} CPU seconds"
    if broken == "wall time":
        return "timeout", f"more than {limits.wall_seconds:g} wall seconds"
    complained = bool(exit_code) and any(words in watched.stderr for words in _OUT_OF_MEMORY)
    if broken == "memory" or (broken is None and complained):
        return "memory", f"more than {limits.memory_mib} MiB"
    if broken is not None:
        return "crash", f"killed: too much {broken}"
    return "exited", ""
