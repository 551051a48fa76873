"""What can go wrong, and the exit code each kind of trouble ends with.

Every message states what was found, the rule it broke, and what to type next.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a process of r1exp ends."""

    DONE = 0
    REFUSED = 2  # nothing ran: the request itself was wrong
    FAILED = 3  # something ran and broke
    STOPPED = 4  # a health rule ended the run
    PREEMPTED = 75  # saved and to be requeued (EX_TEMPFAIL)
    INTERRUPTED = 130  # Ctrl-C or SIGTERM, as shells count it (128 + SIGINT)


class R1ExpError(Exception):
    """Trouble with a message for a person. `exit_code` is what the process returns."""

    exit_code: ExitCode = ExitCode.FAILED


class Refused(R1ExpError):
    """The request cannot be carried out as typed; nothing was run and nothing was written."""

    exit_code = ExitCode.REFUSED


class StepFailed(R1ExpError):
    """A step started and broke; its status file says where."""

    exit_code = ExitCode.FAILED


class StoppedByHealth(R1ExpError):
    """A health rule whose action is `stop` was broken."""

    exit_code = ExitCode.STOPPED


class Preempted(R1ExpError):
    """The scheduler asked for the machine; a checkpoint was saved."""

    exit_code = ExitCode.PREEMPTED


class Interrupted(R1ExpError):
    """A person or the system asked the run to end."""

    exit_code = ExitCode.INTERRUPTED
