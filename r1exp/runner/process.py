"""Runs the processes of a step: their output goes to log.txt, and they end when the parent ends."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from r1exp.files import write_text
from r1exp.launcher.base import Launch
from r1exp.paths import StepPaths

PARENT_VARIABLE = "R1EXP_PARENT"  # "pid:start time" of the parent; workers end when that process has ended
# An outer torchrun or a notebook may have set these variables; the launcher sets them again.
_RENDEZVOUS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_GRACE = 20.0  # seconds between SIGTERM and SIGKILL
_POLL = 0.2  # seconds between two checks of the process


def run_process(launch: Launch, folder: Path, follow: Callable[[], None]) -> int:
    """Run a step's processes to their end and return the exit status.

    An exception in the parent (Ctrl-C, SIGTERM) ends the whole process group.

    Args:
        launch: The command, its environment and its files.
        folder: The step's folder; the files and log.txt are written to it.
        follow: Called several times per second while the processes run, to show progress.
    """
    for name, text in launch.files.items():
        write_text(folder / name, text)
    inherited = {name: value for name, value in os.environ.items() if name not in _RENDEZVOUS}
    environment = {**inherited, **launch.environment, PARENT_VARIABLE: parent_mark()}
    with StepPaths(folder).log().open("ab") as log:
        process = subprocess.Popen(
            launch.arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C signals only the parent, which ends the group
        )
        try:
            while process.poll() is None:
                follow()
                time.sleep(_POLL)
        except BaseException:
            _end_group(process)
            raise
        follow()
        return process.returncode


def parent_mark() -> str:
    """Return this process's id and start time, which together identify it."""
    return f"{os.getpid()}:{psutil.Process().create_time()}"


def parent_is_gone(mark: str) -> bool:
    """Whether the process that `parent_mark` identified has ended."""
    pid, _, started = mark.partition(":")
    try:
        return psutil.Process(int(pid)).create_time() != float(started)
    except psutil.NoSuchProcess:
        return True


def _end_group(process: subprocess.Popen[bytes]) -> None:
    _signal_group(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    _signal_group(process, signal.SIGKILL)  # processes that ignored SIGTERM, grandchildren included
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
