"""Finds which rank failed first, and why. Each failing rank writes a file; the parent selects the cause from them.

    <step>/failed-rank-1.json   error, traceback and time of the failure of rank 1
    <step>/log-rank-1.txt       output of rank 1; rank 0 and the launcher write to log.txt

When a rank exits, the others lose their connection to it and fail some milliseconds later. Such an error is a
consequence; it is reported as the cause only if no rank reports another error.
"""

import os
import re
import socket
import time
import traceback
from contextlib import suppress
from pathlib import Path

from pydantic import NonNegativeFloat, NonNegativeInt, ValidationError

from r1exp.errors import R1ExpError
from r1exp.files import write_text
from r1exp.launcher.kills import Kills
from r1exp.launcher.torchrun import before_report, root_cause
from r1exp.paths import StepPaths
from r1exp.settings import Settings

_LOST_PEER = re.compile(
    r"closed by peer|reset by peer|Broken pipe|gloo|NCCL|TCPStore|heartbeat", re.IGNORECASE
)
# gloo: "Timed out waiting 5000ms for recv operation"; NCCL: "ran for 600029 milliseconds before timing out"
_TIMED_OUT = re.compile(r"Timed out waiting \d+ ?ms|milliseconds before timing out|Socket Timeout")
_LONGER = (
    "; a rank waited so long for another one: if that one only had more to do, as with long completions, type a larger "
    "trainer.ddp_timeout=SECONDS"
)
_PEER = re.compile(r"peer \[([0-9a-fA-F:.]+)\]:\d+")  # gloo: "Connection closed by peer [10.0.0.2]:4711"
_LAST_LINES = 20  # of the log of a rank that left no traceback


class Failure(Settings):
    """How one rank failed."""

    rank: NonNegativeInt
    reason: str
    # None: the reason is a message for the user, or the rank could not write a traceback
    traceback: str | None = None
    was_reported: bool = True  # false: the rank was killed, or exited before it could write a reason
    at: NonNegativeFloat = 0.0  # seconds since 1970
    is_consequence: bool = False  # it lost the connection to another rank


def failure_of(error: Exception, rank: int) -> Failure:
    """Return the failure of a rank that ends with `error`."""
    if isinstance(error, R1ExpError):
        return Failure(rank=rank, reason=str(error), at=time.time())
    reason = f"{type(error).__name__}: {error}"
    if _TIMED_OUT.search(reason):  # not a consequence: the rank that it waited for goes on
        text = "".join(traceback.format_exception(error))
        return Failure(rank=rank, reason=f"{reason}{_LONGER}", traceback=text, at=time.time())
    return Failure(
        rank=rank,
        reason=reason,
        traceback="".join(traceback.format_exception(error)),
        at=time.time(),
        is_consequence=_LOST_PEER.search(reason) is not None,
    )


def write_failure(folder: Path, failure: Failure) -> None:
    """Write a rank's failure into the step's folder."""
    write_text(StepPaths(folder).failure(failure.rank), failure.model_dump_json(indent=2) + "\n")


def redirect_output(folder: Path, rank: int) -> None:
    """Redirect the output of this process, compiled code included, to the log of its rank."""
    if rank == 0:
        return  # its output is written to log.txt, with that of the launcher
    with StepPaths(folder).log(rank).open("ab") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)


def first_failure(folder: Path, log: str, kills: Kills, is_here: bool = True) -> Failure | None:
    """Return the failure that caused the others, or None if neither a rank nor the launcher reports one.

    Args:
        folder: Folder of the step.
        log: Output of the launcher during this attempt.
        kills: What the kernel has killed since the attempt began.
        is_here: Whether all ranks ran on this machine.
    """
    reported = []
    for path in StepPaths(folder).failures():
        with suppress(ValidationError):  # damaged: the other ranks and the log remain
            reported.append(Failure.model_validate_json(path.read_bytes(), strict=True))
    reported.sort(key=lambda failure: failure.at)
    causes = [failure for failure in reported if not failure.is_consequence]
    if causes:
        return causes[0]
    seen = root_cause(log)
    if seen is None:
        return next(iter(reported), None)
    own = [failure for failure in reported if failure.rank == seen.rank]
    if own:
        return own[0]
    aborted = next((text for text in (log, _log_of(folder, seen.rank)) if _TIMED_OUT.search(text)), None)
    reason = f"{seen.text(kills, is_here)}{'' if aborted is None else _LONGER}"
    return Failure(rank=seen.rank, reason=reason, was_reported=False)


def _log_of(folder: Path, rank: int) -> str:
    """Return what a rank has printed; empty if it has no log."""
    own = StepPaths(folder).log(rank)
    return own.read_text(encoding="utf-8", errors="replace") if own.exists() else ""


def silent_ranks(folder: Path, num_ranks: int) -> list[int]:
    """Return the ranks that reported no failure, as those of a machine that was lost."""
    return [rank for rank in range(num_ranks) if not StepPaths(folder).failure(rank).exists()]


def peer_of(failure: Failure) -> str | None:
    """Return the machine to which a rank lost the connection, as its error names it; None if it names none."""
    found = _PEER.search(failure.reason)
    if found is None:
        return None
    try:
        return f"{socket.gethostbyaddr(found[1])[0]} ({found[1]})"
    except OSError:  # it has no name
        return found[1]


def last_output(folder: Path, failure: Failure, log: str) -> str | None:
    """Return the traceback of a rank, or the end of its output if it could not write one.

    None if the reason is a message of r1exp, which needs neither.
    """
    if failure.was_reported:
        return failure.traceback
    text = (_log_of(folder, failure.rank) if failure.rank else "") or log
    lines = before_report(text).replace("\r", "\n").splitlines()
    return "\n".join(lines[-_LAST_LINES:]) + "\n"
