"""What is run in a sandbox, under which limits, and what comes back.

A provider (`local`, `piston`, `e2b`, `morph`) only executes: it prepares a program once and runs it
on many inputs. Verdicts are `judge.py`'s work, outside of every sandbox, so that no submission ever
shares a machine with the output it is expected to produce.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from r1exp.settings import Settings

Language = Literal["python", "cpp"]
Outcome = Literal["passed", "wrong", "timeout", "memory", "crash", "compile_error"]

FILE_NAMES: dict[Language, str] = {"python": "main.py", "cpp": "main.cpp"}


class Limits(Settings):
    """What one execution may use. Beyond a limit it is killed with everything it started."""

    cpu_seconds: PositiveFloat = 4.0  # CPU seconds a case
    wall_seconds: PositiveFloat = 10.0  # seconds a case, sleeping included
    total_seconds: PositiveFloat = 60.0  # wall seconds of all cases together; then the rest time out
    max_timeouts: PositiveInt = 3  # cases that may time out; then the rest do too, without being run
    compile_seconds: PositiveFloat = 30.0  # wall seconds to compile, once per submission
    memory_mib: PositiveInt = 512  # MiB of all processes of a case together
    num_processes: PositiveInt = 32  # processes and threads at once
    output_kib: PositiveInt = 16384  # KiB of stdout and stderr together
    scratch_mib: PositiveInt = 64  # MiB of files in the scratch directory, and of any one file


@dataclass(frozen=True, slots=True)
class Submission:
    """A program in source form. For C++, every file in `files` that ends in .cpp is compiled with it."""

    language: Language
    source: str
    files: Mapping[str, str] = field(default_factory=dict)  # name -> text, beside the source


@dataclass(frozen=True, slots=True)
class Checker:
    """A program that judges an output, called with three file names: input, expected, produced.

    `testlib` reads the verdict from the exit code (0 right, 1 and 2 wrong, 7 partial points);
    `score` reads a number between 0 and 1 from the first line of its output (CMS, open-r1).
    """

    program: Submission
    protocol: Literal["score", "testlib"] = "score"


@dataclass(frozen=True, slots=True)
class Case:
    """One test case: what the program reads, what it should print, who compares (None: text equality)."""

    stdin: str
    expected: str
    checker: Checker | None = None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The verdict on one case."""

    outcome: Outcome
    score: float = 0.0  # in [0, 1]; between them only where a checker gives part of the points
    cpu_seconds: float = 0.0
    detail: str = ""  # for a person: the end of stderr, or which limit was broken


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nothing can be said about the submission."""

    reason: str  # short, to be counted
    detail: str  # for a person: what was found and what to do about it


@dataclass(frozen=True, slots=True)
class Invocation:
    """One run of a prepared program."""

    stdin: str = ""
    args: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)  # name -> text, in its working directory


@dataclass(frozen=True, slots=True)
class Execution:
    """How one run ended. `exited` says nothing about the exit code."""

    ended: Literal["exited", "timeout", "memory", "crash"]
    exit_code: int = 0
    stdout: str = ""
    stderr: str = ""  # its end
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0


class SandboxDownError(Exception):
    """The sandbox, not the program, failed. The message says what was found and what to do about it."""

    reason = "sandbox unavailable"


class CheckerBrokenError(SandboxDownError):
    """The program that should judge an output cannot."""

    reason = "checker broken"


class CompileFailedError(Exception):
    """The program does not compile. The message is what the compiler said."""


Execute = Callable[[Invocation], Execution]


class Sandbox(Settings, ABC):
    """A place where programs run. Frozen settings, usable from several threads at once."""

    kind: str

    @abstractmethod
    def check(self) -> str | None:
        """Return why nothing can run here and how to change that, or None when all is well."""

    @abstractmethod
    def prepared(self, program: Submission, limits: Limits) -> AbstractContextManager[Execute]:
        """Compile `program` once; inside the context it can be run many times, from any thread.

        Raises CompileFailedError, or SandboxDownError (as does the callable it gives).
        """
