"""Defines what runs in a sandbox, under which limits, and what a run returns.

A provider (`local`, `piston`, `e2b`, `morph`) only executes: it prepares a program once and runs it on
many inputs. `verdicts.py` compares the outputs outside of every sandbox, so that no submission can read
the output that is expected of it.
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
    """The limits of one execution. Beyond a limit it is killed with every process that it started."""

    cpu_seconds: PositiveFloat = 4.0  # CPU seconds per case
    wall_seconds: PositiveFloat = 10.0  # seconds per case, including time spent sleeping
    total_seconds: PositiveFloat = 60.0  # wall seconds of all cases together; later cases count as timeouts
    max_timeouts: PositiveInt = 3  # timeouts after which the remaining cases count as timeouts
    compile_seconds: PositiveFloat = 30.0  # wall seconds to compile, once per submission
    memory_mib: PositiveInt = 512  # MiB of all processes of a case together
    num_processes: PositiveInt = 32  # processes and threads at once
    output_kib: PositiveInt = 16384  # KiB of stdout and stderr together
    scratch_mib: PositiveInt = 64  # MiB of files in the scratch directory, and of any one file


@dataclass(frozen=True, slots=True)
class Submission:
    """The source of a program. For C++, every file in `files` whose name ends in .cpp is compiled with it."""

    language: Language
    source: str
    files: Mapping[str, str] = field(default_factory=dict)  # name -> text, in the folder of the source


@dataclass(frozen=True, slots=True)
class Checker:
    """A program that judges an output. It is called with three file names: input, expected, produced.

    With the protocol `testlib` the exit code is the verdict (0 right, 1 and 2 wrong, 7 partial points);
    with `score` it is a number between 0 and 1 on the first line of the checker's output (CMS, open-r1).
    """

    program: Submission
    protocol: Literal["score", "testlib"] = "score"


@dataclass(frozen=True, slots=True)
class Case:
    """One test case."""

    stdin: str  # input of the program
    expected: str  # output that the program should print
    checker: Checker | None = None  # compares the outputs; None: they must be equal as text


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The verdict on one case."""

    outcome: Outcome
    score: float = 0.0  # in [0, 1]; neither 0 nor 1 only if a checker gives part of the points
    cpu_seconds: float = 0.0
    detail: str = ""  # for the user: the end of stderr, or the limit that was exceeded


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The submission could not be judged."""

    reason: str  # short, for counting
    detail: str  # for the user: what was found and what to do


@dataclass(frozen=True, slots=True)
class Invocation:
    """The input of one run of a prepared program."""

    stdin: str = ""
    args: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)  # name -> text, in its working directory


@dataclass(frozen=True, slots=True)
class Execution:
    """The result of one run. `exited` means that the program ended by itself, with any exit code."""

    ended: Literal["exited", "timeout", "memory", "crash"]
    exit_code: int = 0
    stdout: str = ""
    stderr: str = ""  # the last part of it
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0


class SandboxDownError(Exception):
    """The sandbox failed, not the program. The message says what was found and what to do."""

    reason = "sandbox unavailable"


class CheckerBrokenError(SandboxDownError):
    """The checker of a problem does not work."""

    reason = "checker broken"


class CompileFailedError(Exception):
    """The program does not compile. The message is the output of the compiler."""


Execute = Callable[[Invocation], Execution]


class Sandbox(Settings, ABC):
    """Base class of the sandboxes. Frozen settings, usable from several threads at once."""

    kind: str

    @abstractmethod
    def check(self) -> str | None:
        """Return why nothing can run here and how to change that, or None if programs can run."""

    @abstractmethod
    def prepared(self, program: Submission, limits: Limits) -> AbstractContextManager[Execute]:
        """Compile `program` once; inside the context it can be run many times, from any thread.

        Raises:
            CompileFailedError: the program does not compile.
            SandboxDownError: the sandbox failed. The returned callable may raise it too.
        """
