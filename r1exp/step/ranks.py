"""Shows in the folder of a step that its ranks live, so that no run goes on with it before they have ended.

    <step>/ranks.lock   each rank holds a shared kernel lock (flock) on it until its process ends

A parent that is killed releases the lease of the step store at once; its ranks notice that some seconds later, and may be
writing a checkpoint until then.
"""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from r1exp.paths import StepPaths

_POLL = 0.1  # seconds


def hold_folder(folder: Path) -> None:
    """Lock the folder of a step until this process ends; several ranks hold it at once."""
    with suppress(OSError):  # a file system without locks
        handle = os.open(StepPaths(folder).ranks_lock, os.O_RDONLY | os.O_CREAT, 0o666)
        fcntl.flock(handle, fcntl.LOCK_SH)


def wait_for_ranks(folder: Path, patience: float) -> bool:
    """Wait until no rank holds the folder of a step; return whether that was so within `patience` seconds."""
    try:
        handle = os.open(StepPaths(folder).ranks_lock, os.O_RDONLY)
    except OSError:  # it was not executed with this version of r1exp
        return True
    end = time.monotonic() + patience
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > end:
                    return False
                time.sleep(_POLL)
            except OSError:  # a file system without locks
                return True
    finally:
        os.close(handle)
