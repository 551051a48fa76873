"""Runs programs on this machine, each run in a new process tree inside bubblewrap.

Python and JavaScript run from source. C++ is compiled once per submission, also in the sandbox, because a compiler
reads any file that `#include` names. The binary is passed from run to run in memory: no file of a
submission is written to the host's disk.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
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
    Language,
    Limits,
    Sandbox,
    SandboxDownError,
    Submission,
    ToolMissingError,
)

_COMPILE_MEMORY_MIB, _COMPILE_PROCESSES, _BINARY_MIB = 2048, 32, 256
_STACK_OF_NODE_MIB = 64  # MiB; Node's own default, 1, is too little for the recursions of contests
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
        prefix, stack_mib = bubblewrap.interpreter(self.python).prefix, None
        program_files = _sources(program)
        if program.language == "cpp":
            files = tuple(sorted(program.files.items()))
            binary = _compiled(self, program.source, files, limits.compile_seconds)
            argv, program_files = [f"{_SOURCES}/program"], {f"{_SOURCES}/program": binary}
            stack_mib = limits.memory_mib  # contests allow deep recursion in C++
        elif program.language == "javascript":
            executable, prefix = bubblewrap.node()
            stack_mib = _STACK_OF_NODE_MIB + 8
            argv = [
                executable, f"--stack-size={_STACK_OF_NODE_MIB * 1024}",
                f"--max-old-space-size={limits.memory_mib}", f"{_SOURCES}/{FILE_NAMES['javascript']}",
            ]  # fmt: skip
        else:
            argv = self._start_of_python()

        def execute(call: Invocation) -> Execution:
            inputs = {f"{bubblewrap.SCRATCH}/{name}": text.encode() for name, text in call.files.items()}
            job = process.Job(
                [*argv, *call.args], limits, prefix, call.stdin.encode(), program_files | inputs, stack_mib,
                program.language,
            )  # fmt: skip
            return process.run(job)[0]

        yield execute

    def lacks(self, language: Language) -> str | None:
        """Return which of g++ and node is needed and not installed; None: nothing is."""
        try:
            if language == "javascript":
                bubblewrap.node()
            elif language == "cpp" and shutil.which(self.compiler) is None:
                raise ToolMissingError(self.compiler, "g++")
        except ToolMissingError as missing:
            return str(missing)
        return None

    def converse(
        self, program: Submission, other: Submission, limits: Limits, other_limits: Limits
    ) -> tuple[Execution, Execution]:
        """Run two Python programs at once, each one's output connected to the other's input."""
        _checked(self)
        prefix = bubblewrap.interpreter(self.python).prefix
        (there, to_other), (here, to_program) = os.pipe(), os.pipe()
        jobs = [
            process.Job(self._start_of_python(), limits, prefix, here, _sources(program), stdout=to_other),
            process.Job(
                self._start_of_python(), other_limits, prefix, there, _sources(other), stdout=to_program
            ),
        ]
        with ThreadPoolExecutor(max_workers=2) as pool:
            first, second = (pool.submit(process.run, job) for job in jobs)
            return first.result()[0], second.result()[0]

    def _start_of_python(self) -> list[str]:
        return [bubblewrap.interpreter(self.python).executable, f"{_SOURCES}/{FILE_NAMES['python']}"]


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
        raise ToolMissingError(sandbox.compiler, "g++")
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
