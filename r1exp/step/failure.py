"""Which rank failed first, and why? Each failing rank leaves a file; the parent picks the cause from them.

    <step>/failed-rank-1.json   the error, its traceback and when it came, from rank 1
    <step>/log-rank-1.txt       all that rank 1 printed; rank 0 prints to log.txt, where the launcher prints too

When a rank dies, the others lose their connection to it and fail too, some milliseconds later. Such an
error is a consequence, and not the cause while another rank has a better one.
"""

import os
import re
import time
import traceback
from pathlib import Path

from pydantic import NonNegativeFloat, NonNegativeInt

from r1exp.errors import R1ExpError
from r1exp.files import write_text
from r1exp.launcher.torchrun import before_report, root_cause
from r1exp.settings import Settings

LOG = "log.txt"
_LOST_PEER = re.compile(
    r"closed by peer|reset by peer|Broken pipe|gloo|NCCL|TCPStore|heartbeat", re.IGNORECASE
)
_LAST_LINES = 20  # of the log of a rank that left no traceback


class Failure(Settings):
    """How one rank failed."""

    rank: NonNegativeInt
    reason: str
    traceback: str | None = (
        None  # None: the reason is a sentence for a person, or the rank could not leave one
    )
    has_spoken: bool = True  # false: the rank was killed, or died before it could say why
    at: NonNegativeFloat = 0.0  # seconds since 1970
    is_consequence: bool = False  # it lost the connection to another rank


def failure_of(error: Exception, rank: int) -> Failure:
    """Return what a rank has to say about the error that ends it."""
    if isinstance(error, R1ExpError):
        return Failure(rank=rank, reason=str(error), at=time.time())
    reason = f"{type(error).__name__}: {error}"
    return Failure(
        rank=rank,
        reason=reason,
        traceback="".join(traceback.format_exception(error)),
        at=time.time(),
        is_consequence=_LOST_PEER.search(reason) is not None,
    )


def note_failure(folder: Path, failure: Failure) -> None:
    """Leave a rank's failure in the step's folder."""
    write_text(folder / f"failed-rank-{failure.rank}.json", failure.model_dump_json(indent=2) + "\n")


def log_of(folder: Path, rank: int) -> Path:
    """Return the file that holds what a rank printed."""
    return folder / (LOG if rank == 0 else f"log-rank-{rank}.txt")


def print_apart(folder: Path, rank: int) -> None:
    """Send all that this process prints from now on, compiled code included, to the log of its rank."""
    if rank == 0:
        return  # already there, with the launcher
    with log_of(folder, rank).open("ab") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)


def first_failure(folder: Path, log: str) -> Failure | None:
    """Return the failure that brought the others along, or None where nobody said or saw anything.

    Args:
        folder: The step's.
        log: What the launcher printed during this attempt.
    """
    files = folder.glob("failed-rank-*.json")
    noted = [Failure.model_validate_json(path.read_text(encoding="utf-8"), strict=True) for path in files]
    noted.sort(key=lambda failure: failure.at)
    causes = [failure for failure in noted if not failure.is_consequence]
    if causes:
        return causes[0]
    seen = root_cause(log)
    if seen is None:
        return next(iter(noted), None)
    said = [failure for failure in noted if failure.rank == seen.rank]
    return said[0] if said else Failure(rank=seen.rank, reason=seen.text(), has_spoken=False)


def last_words(folder: Path, failure: Failure, log: str) -> str | None:
    """Return the traceback of a rank, or the end of what it printed where it could not leave one.

    None where the reason is a sentence of ours, which needs neither.
    """
    if failure.has_spoken:
        return failure.traceback
    own = log_of(folder, failure.rank)
    text = log if failure.rank == 0 or not own.exists() else own.read_text(encoding="utf-8", errors="replace")
    lines = before_report(text).replace("\r", "\n").splitlines()
    return "\n".join(lines[-_LAST_LINES:]) + "\n"
