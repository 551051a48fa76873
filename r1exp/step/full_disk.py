"""Lets a step on a full disk say so: a reserved file is deleted to make room for its status.

    <step>/reserve.bin   of a step that runs

Some errors of libraries do not name the cause (torch.save: "unexpected pos 64 vs 0"), so the free space counts too.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from r1exp.files import is_no_space
from r1exp.paths import StepPaths

_RESERVED = 2**18  # bytes; the status, the failures of some ranks, summary.json and report.md need less
_FULL = 2**16  # bytes; a disk with less free space, beside the reserve, is full


def reserve(folder: Path) -> None:
    """Reserve space in the folder of a step, for what it writes last. Raises OSError if there is none."""
    path = StepPaths(folder).reserve
    path.write_bytes(os.urandom(_RESERVED))  # zeros would use no space on a disk that compresses


def release(folder: Path) -> None:
    """Delete the reserved space."""
    with suppress(OSError):
        StepPaths(folder).reserve.unlink(missing_ok=True)


def is_full(folder: Path, error: BaseException | None = None) -> bool:
    """Whether the disk of a step is full, by its free space or by an error of a library."""
    reported = error
    while reported is not None:
        if is_no_space(reported):
            return True
        reported = reported.__cause__ or reported.__context__
    return shutil.disk_usage(folder).free < _FULL
