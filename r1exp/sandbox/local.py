"""Running programs on this machine, each run in a fresh process tree inside bubblewrap.

Python runs from source. C++ is compiled once per submission, in the sandbox as well (a compiler reads
whatever `#include` names), and its binary is handed from run to run in memory: no file of a
submission ever lies on the host.
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
_SOURCES = "/source"  # folder inside
_BUILD = f'"$@" -o {bubblewrap.SCRATCH}/program 1>&2 && exec cat {bubblewrap.SCRATCH}/program'


class Local(Sandbox):
    """Bubblewrap on this machine. It refuses to run where it cannot isolate."""

    kind: Literal["local"] = "local"
    python: str | None = None  # path of the Python that runs submissions; None: the one that runs r1exp
    compiler: str = "/usr/bin/g++"  # path
    compiler_flags: tuple[str, ...] = ("-O2", "-std=gnu++17", "-pipe", "-w", "-DONLINE_JUDGE", "-DEVAL")

    def check(self) -> str | None:
        """Start Python in the sandbox and see."""
        try:
            _checked(self)
        except SandboxDownError as down:
            return str(down)
        return None

    @contextmanager
    def prepared(self, program: Submission, limits: Limits) -> Iterator[Execute]:
        """Compile if need be; every run gets the result and nothing of any other run."""
        _checked(self)
        python = bubblewrap.interpreter(self.python)
        if program.language == "cpp":
            binary = _compiled(
                self, program.source, tuple(sorted(program.files.items())), limits.compile_seconds
            )
            argv, carried = [f"{_SOURCES}/program"], {f"{_SOURCES}/program": binary}
        else:
            argv = [python.executable, f"{_SOURCES}/{FILE_NAMES['python']}"]
            carried = _sources(program)

        def execute(call: Invocation) -> Execution:
            inputs = {f"{bubblewrap.SCRATCH}/{name}": text.encode() for name, text in call.files.items()}
            # Judges promise that deep recursion works in C++.
            stack_mib = limits.memory_mib if program.language == "cpp" else None
            job = process.Job(
                [*argv, *call.args], limits, python.prefix, call.stdin.encode(), carried | inputs, stack_mib
            )
            return process.run(job)[0]

        yield execute


def _sources(program: Submission) -> dict[str, bytes]:
    texts: Mapping[str, str] = {FILE_NAMES[program.language]: program.source, **program.files}
    return {f"{_SOURCES}/{name}": text.encode() for name, text in texts.items()}


@lru_cache(maxsize=32)  # a checker judges many submissions, and a submission comes back for every batch
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


@lru_cache  # of what is well; trouble is looked at again
def _checked(sandbox: Local) -> None:
    """Raise SandboxDownError if nothing can be run here."""
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
            f"{down}. Bubblewrap needs version 0.8 or newer and leave to create namespaces: as root, or with "
            "`sysctl kernel.unprivileged_userns_clone=1` (Debian), `sysctl "
            "kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu), `--security-opt seccomp=unconfined "
            "--cap-add SYS_ADMIN` (Docker); or choose another provider: sandbox.kind=piston"
        ) from down
    if result.stdout.strip() != "42":
        said = result.stderr.strip()[-300:]
        raise SandboxDownError(
            f"Python did not start in the sandbox: {said}; set sandbox.python to another one"
        )
