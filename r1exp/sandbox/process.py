"""Runs one program in isolation: starts its process tree, enforces the limits, and returns the result.

Every few milliseconds the wall time and the CPU time, memory and number of all processes of the tree are
compared with the limits, and every byte of output is counted. In addition the kernel limits each single
process (prlimit), so that limits hold, only later, if this process is slow.
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
from typing import Literal

from r1exp.sandbox import bubblewrap, seccomp
from r1exp.sandbox.base import Execution, Language, Limits, SandboxDownError
from r1exp.sandbox.usage import usage

_FIRST_CHECK, _BETWEEN_CHECKS = 0.050, 0.020  # seconds; most programs end before the first
_OWN_PROCESSES = 4  # bwrap, its child, and the commands in front of the program
_STDERR_TAIL = 4096  # bytes
_CHUNK = 1 << 16  # bytes
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_OUT_OF_MEMORY = (b"MemoryError", b"std::bad_alloc", b"Cannot allocate memory", b"out of memory")


@contextmanager
def in_memory(content: bytes) -> Iterator[int]:
    """Yield a file descriptor at position 0 of a file with `content`, which cannot be changed."""
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
    """A program with its limits and input."""

    program: list[str]
    limits: Limits
    prefix: str  # folder of the Python that must be visible
    stdin: bytes | int = b""  # content; or a file descriptor, which is closed
    files: dict[str, bytes] = field(default_factory=dict)  # absolute path in the sandbox -> content
    stack_mib: int | None = None  # None: the system's own limit
    language: Language = "python"  # of the program
    stdout: int = subprocess.PIPE  # or a file descriptor, which is closed; then stdout is not returned


@dataclass(slots=True)
class _Tree:
    """A process tree while it runs."""

    process: subprocess.Popen[bytes]  # bwrap
    job: Job
    started: float
    gate: int  # file descriptor: the program starts when a byte is written to it
    root: tuple[int, int] | None = None  # the host's id of the tree's pid 1, and a pidfd for it
    exceeded: str | None = None  # the first limit that was exceeded
    num_bytes: int = 0
    cpu_seconds: float = 0.0
    stdout: list[bytes] = field(default_factory=list)
    stderr: bytes = b""
    status: bytes = b""

    @property
    def limits(self) -> Limits:
        return self.job.limits

    def kill(self, reason: str | None = None) -> None:
        """Kill all processes of the tree: the kernel kills them with their pid 1."""
        self.exceeded = self.exceeded or reason
        if self.root is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.root[1], signal.SIGKILL)
        self.process.kill()  # its child was started with --die-with-parent

    def add_output(self, name: str, data: bytes) -> None:
        """Store data that was read from a pipe."""
        if name == "status":
            self.status += data
            if self.root is None and b"\n" in self.status:
                self._limit_and_start(json.loads(self.status.split(b"\n")[0])["child-pid"])
            return
        self.num_bytes += len(data)
        if self.num_bytes > self.limits.output_kib * 1024:
            self.kill("output")
        elif name == "stdout":
            self.stdout.append(data)
        else:
            self.stderr = (self.stderr + data)[-_STDERR_TAIL:]

    def _limit_and_start(self, first_pid: int) -> None:
        """Set the limits of the tree's pid 1, and then let the program start."""
        try:
            self.root = first_pid, os.pidfd_open(first_pid)
            bubblewrap.set_limits(first_pid, self.limits, self.job.stack_mib, self.job.language)
            os.write(self.gate, b"\n")
        except (ProcessLookupError, BrokenPipeError):
            return  # it has exited already; its stderr says why
        except OSError as error:
            raise SandboxDownError(f"the limits of a process cannot be set here: {error}") from error

    def check_limits(self) -> None:
        """Kill the tree if it uses more than its limits."""
        if time.monotonic() - self.started > self.limits.wall_seconds:
            self.kill("wall time")
        if self.root is None:
            return
        num_processes, memory_kib, cpu_seconds = usage(self.root[0], self.job.language)
        self.cpu_seconds = max(self.cpu_seconds, cpu_seconds)
        if self.cpu_seconds > self.limits.cpu_seconds:
            self.kill("CPU time")
        if memory_kib > self.limits.memory_mib * 1024:
            self.kill("memory")
        if num_processes > self.limits.num_processes + _OWN_PROCESSES:
            self.kill("parallelism")


def run(job: Job) -> tuple[Execution, bytes]:
    """Run `job` to its end and return the result, and stdout as bytes. All its processes have then exited."""
    with ExitStack() as stack:
        who = stack.enter_context(bubblewrap.identity())
        files = {path: stack.enter_context(in_memory(data)) for path, data in job.files.items()}
        filter_fd = stack.enter_context(in_memory(seccomp.program(for_node=job.language == "javascript")))
        given = [end for end in (job.stdin, job.stdout) if isinstance(end, int) and end >= 0]
        closing = stack.enter_context(ExitStack())
        for end in given:
            closing.callback(os.close, end)
        stdin_fd = job.stdin if isinstance(job.stdin, int) else stack.enter_context(in_memory(job.stdin))
        (status, status_end), (gate_end, gate) = os.pipe(), os.pipe()
        for descriptor in (status, gate):
            stack.callback(os.close, descriptor)
        inherited = bubblewrap.Descriptors(files, filter_fd, status_end, gate_end)
        try:
            process = subprocess.Popen(
                bubblewrap.command(who, job.limits, job.prefix, inherited, job.program),
                stdin=stdin_fd, stdout=job.stdout, stderr=subprocess.PIPE, bufsize=0,
                pass_fds=[*files.values(), filter_fd, status_end, gate_end], env=bubblewrap.ENVIRONMENT,
            )  # fmt: skip
        finally:
            os.close(status_end)
            os.close(gate_end)
            closing.close()  # the other end sees when the program has ended
        tree = _Tree(process, job, time.monotonic(), gate)
        try:
            _watch(tree, status)
        finally:  # also if this thread is interrupted
            _kill_and_wait(tree)
        return _result(tree)


def _watch(tree: _Tree, status_read: int) -> None:
    """Read and check the limits until every pipe is closed and the tree's pid 1 has exited, as its last."""
    stdout, stderr = tree.process.stdout, tree.process.stderr
    assert stderr is not None
    names = {status_read: "status", stderr.fileno(): "stderr"}
    if stdout is not None:
        names[stdout.fileno()] = "stdout"
    poll = select.poll()
    for descriptor in names:
        poll.register(descriptor, select.POLLIN)
    next_check = tree.started + _FIRST_CHECK
    while names:
        for descriptor, _ in poll.poll(max(next_check - time.monotonic(), 0) * 1000):
            data = b"" if names[descriptor] == "root" else os.read(descriptor, _CHUNK)
            if not data:
                poll.unregister(descriptor)
                del names[descriptor]
                continue
            was_unknown = tree.root is None
            tree.add_output(names[descriptor], data)
            if was_unknown and tree.root is not None:
                names[tree.root[1]] = "root"
                poll.register(tree.root[1], select.POLLIN)
        if time.monotonic() >= next_check:
            tree.check_limits()
            next_check = time.monotonic() + _BETWEEN_CHECKS


def _kill_and_wait(tree: _Tree) -> None:
    """Kill what is left of the tree and return when all of it has exited."""
    tree.kill()
    tree.process.wait()
    for pipe in (tree.process.stdout, tree.process.stderr):
        if pipe is not None:
            pipe.close()
    if tree.root is not None:
        select.select([tree.root[1]], [], [])
        os.close(tree.root[1])


def _result(tree: _Tree) -> tuple[Execution, bytes]:
    reports = [json.loads(line) for line in tree.status.splitlines()]
    exit_code = next((report["exit-code"] for report in reports if "exit-code" in report), None)
    stderr = tree.stderr.decode(errors="replace")
    if tree.exceeded is None and exit_code is None:
        if not reports or tree.process.returncode != -signal.SIGKILL:
            raise SandboxDownError(f"bubblewrap did not start: {stderr.strip()[-300:] or 'no message'}")
        tree.exceeded = "memory"  # only the kernel kills it otherwise, and only for lack of memory
    ended, limit = _ending(tree, exit_code)
    stdout, wall_seconds = b"".join(tree.stdout), time.monotonic() - tree.started
    text = stdout.decode(errors="replace")
    execution = Execution(ended, exit_code or 0, text, limit or stderr, tree.cpu_seconds, wall_seconds)
    return execution, stdout


def _ending(
    tree: _Tree, exit_code: int | None
) -> tuple[Literal["exited", "timeout", "memory", "crash"], str]:
    """Return how the run ended, and the limit that it exceeded ("" for none)."""
    limits, exceeded = tree.limits, tree.exceeded
    killed_by_kernel = exit_code == 128 + signal.SIGKILL and tree.cpu_seconds > 0.8 * limits.cpu_seconds
    if exceeded == "CPU time" or killed_by_kernel:
        return "timeout", f"more than {limits.cpu_seconds:g} CPU seconds"
    if exceeded == "wall time":
        return "timeout", f"more than {limits.wall_seconds:g} wall seconds"
    reports_no_memory = bool(exit_code) and any(message in tree.stderr for message in _OUT_OF_MEMORY)
    if exceeded == "memory" or (exceeded is None and reports_no_memory):
        return "memory", f"more than {limits.memory_mib} MiB"
    if exceeded is not None:
        return "crash", f"killed: too much {exceeded}"
    return "exited", ""
