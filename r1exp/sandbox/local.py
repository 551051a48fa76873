"""Runs programs on this machine, each run in a new process tree inside bubblewrap.

Python runs from source. C++ is compiled once per submission, also in the sandbox, because a compiler
reads any file that `#include` names. The binary is passed from run to run in memory: no file of a
submission is written to the host's disk.
"""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Literal

from r1exp.sandbox import bubblewrap, process
from r1exp.sandbox.base import (
    FILE_NAMES,
    CompileFailedError,
    Execute,
    Execution,
    Invocation,
    Limits,
    Sandbox,
    SandboxDownError,
    Submission,
)

_COMPILE_MEMORY_MIB, _COMPILE_PROCESSES, _BINARY_MIB = 2048, 32, 256
_SOURCES = "/source"  # folder in the sandbox
_BUILD = f'"$@" -o {bubblewrap.SCRATCH}/program 1>&2 && exec cat {bubblewrap.SCRATCH}/program'


class Local(Sandbox):
    """Bubblewrap on this machine. Refuses to run where it cannot isolate."""

    kind: Literal["local"] = "local"
    python: str | None = None  # path of the Python that runs submissions; None: the one that runs r1exp
    compiler: str = "/usr/bin/g++"  # path
    compiler_flags: tuple[str, ...] = (
        "-O2",
        "-std=gnu++17",
        "-pipe",
        "-w",
        "-DONLINE_JUDGE",
        "-DEVAL",
    )  # flags of g++

    def check(self) -> str | None:
        """Start Python in the sandbox and check that it runs."""
        try:
            _checked(self)
        except SandboxDownError as down:
            return str(down)
        return None

    @contextmanager
    def prepared(self, program: Submission, limits: Limits) -> Iterator[Execute]:
        """Compile if necessary; every run gets the result and shares nothing with other runs."""
        _checked(self)
        python = bubblewrap.interpreter(self.python)
        if program.language == "cpp":
            binary = _compiled(
                self, program.source, tuple(sorted(program.files.items())), limits.compile_seconds
            )
            argv, program_files = [f"{_SOURCES}/program"], {f"{_SOURCES}/program": binary}
        else:
            argv = [python.executable, f"{_SOURCES}/{FILE_NAMES['python']}"]
            program_files = _sources(program)

        def execute(call: Invocation) -> Execution:
            inputs = {f"{bubblewrap.SCRATCH}/{name}": text.encode() for name, text in call.files.items()}
            # Contests allow deep recursion in C++.
            stack_mib = limits.memory_mib if program.language == "cpp" else None
            files = program_files | inputs
            job = process.Job(
                [*argv, *call.args], limits, python.prefix, call.stdin.encode(), files, stack_mib
            )
            return process.run(job)[0]

        yield execute


def _sources(program: Submission) -> dict[str, bytes]:
    texts: Mapping[str, str] = {FILE_NAMES[program.language]: program.source, **program.files}
    return {f"{_SOURCES}/{name}": text.encode() for name, text in texts.items()}


@lru_cache(maxsize=32)  # a checker judges many submissions, and a submission may be prepared several times
def _compiled(
    sandbox: Local, source: str, files: tuple[tuple[str, str], ...], compile_seconds: float
) -> bytes:
    """Return the binary. Raises CompileFailedError."""
    program = Submission("cpp", source, dict(files))
    sources = _sources(program)
    inputs = [path for path in sources if path.endswith(".cpp")]
    build = [sandbox.compiler, *sandbox.compiler_flags, *inputs]
    limits = Limits(
        cpu_seconds=compile_seconds, wall_seconds=compile_seconds, memory_mib=_COMPILE_MEMORY_MIB,
        num_processes=_COMPILE_PROCESSES, output_kib=_BINARY_MIB * 1024, scratch_mib=_BINARY_MIB,
    )  # fmt: skip
    prefix = bubblewrap.interpreter(sandbox.python).prefix
    job = process.Job(["/bin/sh", "-c", _BUILD, "build", *build], limits, prefix, files=sources)
    result, binary = process.run(job)
    if "not found" in result.stderr and result.exit_code == 127:
        raise SandboxDownError(f"{sandbox.compiler} is not installed; type: apt-get install g++")
    if result.ended != "exited" or result.exit_code != 0:
        raise CompileFailedError(result.stderr)
    return binary


@lru_cache  # keeps successes only: an exception is not cached
def _checked(sandbox: Local) -> None:
    """Raise SandboxDownError if programs cannot be run here."""
    missing = bubblewrap.missing()
    if missing is not None:
        raise SandboxDownError(missing)
    try:
        python = bubblewrap.interpreter(sandbox.python)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SandboxDownError(
            f"sandbox.python={sandbox.python} does not run ({error}); name a working Python, or leave it out"
        ) from error
    try:
        result, _ = process.run(
            process.Job([python.executable, "-c", "print(6 * 7)"], Limits(), python.prefix)
        )
    except SandboxDownError as down:
        raise SandboxDownError(
            f"{down}. Bubblewrap 0.8 or newer is needed, with permission to create namespaces: as root, or with "
            "`sysctl kernel.unprivileged_userns_clone=1` (Debian), `sysctl "
            "kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu), `--security-opt seccomp=unconfined "
            "--cap-add SYS_ADMIN` (Docker); or choose another provider: sandbox.kind=piston"
        ) from down
    if result.stdout.strip() != "42":
        stderr = result.stderr.strip()[-300:]
        raise SandboxDownError(
            f"Python did not start in the sandbox: {stderr}; set sandbox.python to another one"
        )
