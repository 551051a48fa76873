"""Runs programs on a rented virtual machine: one machine for each submission, one folder for each run.

The machine isolates the submission; inside it, `timeout` and `ulimit` enforce the limits of a run. Runs
of one submission can see each other, runs of two submissions cannot. The expected output is never sent.
"""

import itertools
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from r1exp.sandbox.base import (
    FILE_NAMES,
    CompileFailedError,
    Execute,
    Execution,
    Invocation,
    Limits,
    SandboxDownError,
    Submission,
)

FOLDER = "/tmp/r1exp"
_ROUND_TRIP = 30.0  # seconds that a request may take in addition to its command
_TERMINATED, _KILLED, _CPU, _NOT_FOUND = 124, 137, 152, 127  # exit codes: timeout, SIGKILL, SIGXCPU
_FLAGS = "-O2 -std=gnu++17 -pipe -w -DONLINE_JUDGE -DEVAL"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a shell command."""

    exit_code: int
    stdout: str
    stderr: str


class Machine(Protocol):
    """A machine that receives files and shell commands. Raises SandboxDownError if it is lost."""

    def write(self, path: str, text: str) -> None:
        """Write a file and create its parent folders."""

    def run(self, command: str, seconds: float) -> CommandResult:
        """Run a shell command that ends by itself within `seconds`."""


@contextmanager
def prepared_on(machine: Machine, program: Submission, limits: Limits) -> Iterator[Execute]:
    """Write `program` to the machine and compile it if necessary. Raises CompileFailedError."""
    for name, text in {FILE_NAMES[program.language]: program.source, **program.files}.items():
        machine.write(f"{FOLDER}/source/{name}", text)
    if program.language == "cpp":
        _compile(machine, limits)
    start = {
        "cpp": f"{FOLDER}/program",
        "python": f"python3 {FOLDER}/source/main.py",
        "javascript": f"node {FOLDER}/source/main.js",
    }[program.language]
    # Node reserves much address space that it does not use.
    memory = "-d" if program.language == "javascript" else "-v"
    numbers = itertools.count()

    def execute(call: Invocation) -> Execution:
        folder = f"{FOLDER}/run{next(numbers)}"
        for name, text in {"stdin": call.stdin, **call.files}.items():
            machine.write(f"{folder}/{name}", text)
        began = time.monotonic()
        answer = machine.run(
            _command(folder, f"{start} {shlex.join(call.args)}", limits, memory),
            limits.wall_seconds + _ROUND_TRIP,
        )
        return _execution(answer, time.monotonic() - began, limits)

    yield execute


def _compile(machine: Machine, limits: Limits) -> None:
    build = f"g++ {_FLAGS} -o {FOLDER}/program {FOLDER}/source/*.cpp"
    seconds = limits.compile_seconds
    answer = machine.run(f"timeout -k 1 {seconds:g} {build}", seconds + _ROUND_TRIP)
    if answer.exit_code == _NOT_FOUND:
        raise SandboxDownError("g++ is not installed on the machine; name a template or snapshot that has it")
    if answer.exit_code != 0:
        raise CompileFailedError(answer.stderr or f"the compiler ended with exit code {answer.exit_code}")


def _command(folder: str, start: str, limits: Limits, memory: str) -> str:
    """Return a Bash command that exits with the program's exit code and prints its output up to the limit.

    Args:
        folder: Where it runs.
        start: The command that starts the program.
        limits: The limits.
        memory: Flag of `ulimit` that limits the memory.
    """
    script = (
        f"cd {folder} || exit {_NOT_FOUND}\n"
        f"(ulimit {memory} {limits.memory_mib * 1024} -t {int(-(-limits.cpu_seconds // 1))} -f {limits.scratch_mib * 1024}"
        f" -c 0; exec timeout -k 1 {limits.wall_seconds:g} {start}) < stdin > .stdout 2> .stderr\n"
        f"code=$?; head -c {limits.output_kib * 1024 + 1} .stdout; tail -c 4096 .stderr >&2; exit $code"
    )
    return f"bash -c {shlex.quote(script)}"


def _execution(answer: CommandResult, wall_seconds: float, limits: Limits) -> Execution:
    code, stderr = answer.exit_code, answer.stderr
    is_late = code == _KILLED and wall_seconds >= limits.wall_seconds
    if code in (_TERMINATED, _CPU) or is_late:
        detail = f"more than {limits.cpu_seconds:g} CPU or {limits.wall_seconds:g} wall seconds"
        return Execution("timeout", code, "", detail, 0.0, wall_seconds)
    if code == _KILLED or (code != 0 and ("MemoryError" in stderr or "bad_alloc" in stderr)):
        return Execution("memory", code, "", f"more than {limits.memory_mib} MiB", 0.0, wall_seconds)
    if len(answer.stdout) > limits.output_kib * 1024:
        return Execution("crash", code, "", "too much output", 0.0, wall_seconds)
    return Execution("exited", code, answer.stdout, stderr, 0.0, wall_seconds)
