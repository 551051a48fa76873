"""Running programs on a rented virtual machine: one machine a submission, one folder a run.

The machine is the wall; inside it `timeout` and `ulimit` keep a run within its limits. Runs of one
submission can see each other, runs of two cannot. The expected output is never sent.
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
_ROUND_TRIP = 30.0  # seconds a request may take beyond the command it carries
_TERMINATED, _KILLED, _CPU, _NOT_FOUND = 124, 137, 152, 127  # exit codes: timeout, SIGKILL, SIGXCPU
_FLAGS = "-O2 -std=gnu++17 -pipe -w -DONLINE_JUDGE -DEVAL"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command did."""

    exit_code: int
    stdout: str
    stderr: str


class Machine(Protocol):
    """A machine that takes files and shell commands. Raises SandboxDownError when it is gone."""

    def write(self, path: str, text: str) -> None:
        """Write a file, with the folders it needs."""

    def run(self, command: str, seconds: float) -> Answer:
        """Run a shell command that ends by itself within `seconds`."""


@contextmanager
def prepared_on(machine: Machine, program: Submission, limits: Limits) -> Iterator[Execute]:
    """Put `program` on the machine and compile it if need be. Raises CompileFailedError."""
    for name, text in {FILE_NAMES[program.language]: program.source, **program.files}.items():
        machine.write(f"{FOLDER}/source/{name}", text)
    if program.language == "cpp":
        _compile(machine, limits)
    start = {"cpp": f"{FOLDER}/program", "python": f"python3 {FOLDER}/source/main.py"}[program.language]
    numbers = itertools.count()

    def execute(call: Invocation) -> Execution:
        folder = f"{FOLDER}/run{next(numbers)}"
        for name, text in {"stdin": call.stdin, **call.files}.items():
            machine.write(f"{folder}/{name}", text)
        began = time.monotonic()
        answer = machine.run(
            _command(folder, f"{start} {shlex.join(call.args)}", limits), limits.wall_seconds + _ROUND_TRIP
        )
        return _ending(answer, time.monotonic() - began, limits)

    yield execute


def _compile(machine: Machine, limits: Limits) -> None:
    build = f"g++ {_FLAGS} -o {FOLDER}/program {FOLDER}/source/*.cpp"
    seconds = limits.compile_seconds
    answer = machine.run(f"timeout -k 1 {seconds:g} {build}", seconds + _ROUND_TRIP)
    if answer.exit_code == _NOT_FOUND:
        raise SandboxDownError("g++ is not installed on the machine; name a template or snapshot that has it")
    if answer.exit_code != 0:
        raise CompileFailedError(answer.stderr or f"the compiler ended with exit code {answer.exit_code}")


def _command(folder: str, start: str, limits: Limits) -> str:
    """Bash: the exit code is the program's, its output comes back bounded."""
    script = (
        f"cd {folder} || exit {_NOT_FOUND}\n"
        f"(ulimit -v {limits.memory_mib * 1024} -t {int(-(-limits.cpu_seconds // 1))} -f {limits.scratch_mib * 1024}"
        f" -c 0; exec timeout -k 1 {limits.wall_seconds:g} {start}) < stdin > .stdout 2> .stderr\n"
        f"code=$?; head -c {limits.output_kib * 1024 + 1} .stdout; tail -c 4096 .stderr >&2; exit $code"
    )
    return f"bash -c {shlex.quote(script)}"


def _ending(answer: Answer, wall_seconds: float, limits: Limits) -> Execution:
    code, said = answer.exit_code, answer.stderr
    late = code == _KILLED and wall_seconds >= limits.wall_seconds
    if code in (_TERMINATED, _CPU) or late:
        late_said = f"more than {limits.cpu_seconds:g} CPU or {limits.wall_seconds:g} wall seconds"
        return Execution("timeout", code, "", late_said, 0.0, wall_seconds)
    if code == _KILLED or (code != 0 and ("MemoryError" in said or "bad_alloc" in said)):
        return Execution("memory", code, "", f"more than {limits.memory_mib} MiB", 0.0, wall_seconds)
    if len(answer.stdout) > limits.output_kib * 1024:
        return Execution("crash", code, "", "too much output", 0.0, wall_seconds)
    return Execution("exited", code, answer.stdout, said, 0.0, wall_seconds)
