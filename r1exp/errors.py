"""The errors that end a command with a message for the user, and their exit codes.

Every message states what was found, the rule it broke, and what to type next.
"""

from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Exit code of a process of r1exp."""

    DONE = 0
    REFUSED = 2  # nothing was run, because the request was wrong
    FAILED = 3  # a step failed
    STOPPED = 4  # a health rule ended the run
    PREEMPTED = 75  # saved and to be requeued (EX_TEMPFAIL)
    INTERRUPTED = 130  # Ctrl-C or SIGTERM; 128 + SIGINT, as in shells


class R1ExpError(Exception):
    """An error with a message for the user. `exit_code` is the exit code of the process."""

    exit_code: ExitCode = ExitCode.FAILED


class Refused(R1ExpError):
    """The request cannot be executed as typed; nothing was run and nothing was written."""

    exit_code = ExitCode.REFUSED


class StepFailed(R1ExpError):
    """A step failed after it was started; its status file states the reason."""

    exit_code = ExitCode.FAILED


class NotFinite(StepFailed):
    """A loss or gradient was NaN or infinite.

    Args:
        message: For the user.
        good: The last checkpoint from before the trouble, or None.
    """

    def __init__(self, message: str, good: Path | None) -> None:
        super().__init__(message)
        self.good = good


class StoppedByHealth(R1ExpError):
    """A health rule whose action is `stop` was broken."""

    exit_code = ExitCode.STOPPED


class Preempted(R1ExpError):
    """The scheduler needs the machine; a checkpoint was saved."""

    exit_code = ExitCode.PREEMPTED


class Interrupted(R1ExpError):
    """The user or the system ended the run with a signal."""

    exit_code = ExitCode.INTERRUPTED
