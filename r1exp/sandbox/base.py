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

Language = Literal["python", "cpp", "javascript"]
Outcome = Literal["passed", "wrong", "timeout", "memory", "crash", "compile_error"]

FILE_NAMES: dict[Language, str] = {"python": "main.py", "cpp": "main.cpp", "javascript": "main.js"}


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
    scratch_files: PositiveInt = 4096  # files, folders and links in the scratch directory


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
class Tests:
    """Python code that tests functions of a program, in another sandbox than the program's."""

    source: str  # plain asserts, or a function `check`
    setup: str = ""  # Python that runs before it
    entry: str = ""  # name of the function that `check` is called with; "": plain asserts


@dataclass(frozen=True, slots=True)
class Case:
    """One test case."""

    stdin: str  # input of the program; of a function, its name and arguments as JSON
    expected: str  # output that the program should print; of a function, what it should return, as JSON
    checker: Checker | None = None  # compares the outputs; None: they must be equal
    # How outputs are equal: as text; as JSON; as JSON, where [x] may stand for x (APPS and TACO).
    form: Literal["text", "value", "wrapped"] = "text"
    tests: Tests | None = None  # call functions of the program; then nothing else is compared


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


class ToolMissingError(SandboxDownError):
    """A program that a language needs is not installed."""

    def __init__(self, tool: str, package: str) -> None:
        super().__init__(f"{tool} is not installed; type: apt-get install {package}")
        self.reason = f"{tool.rpartition('/')[2]} not installed"


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

    def lacks(self, language: Language) -> str | None:
        """Return what `language` needs and is not installed, and how to change that; None: nothing."""
        del language
        return None

    def converse(
        self, program: Submission, other: Submission, limits: Limits, other_limits: Limits
    ) -> tuple[Execution, Execution]:
        """Run two Python programs at once, each in its own sandbox; each one's output is the other's input.

        Raises:
            SandboxDownError: a sandbox failed, or this kind of sandbox cannot do it.
        """
        del program, other, limits, other_limits
        raise SandboxDownError(
            f"tests with asserts call a program while it runs, and sandbox.kind={self.kind} runs a program on a "
            "given input only; type sandbox.kind=local, or give the tests as inputs and outputs"
        )
