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
_AFTER_PARENT = 2.0  # seconds that W&B's service gets to end after the process that started it
_POLL = 0.2  # seconds between two checks of the process


def run_process(
    launch: Launch, folder: Path, follow: Callable[[], None], grace: Callable[[], float] = lambda: 20.0
) -> int:
    """Run a step's processes to their end and return the exit status.

    An exception of `follow` ends every process that was started.

    Args:
        launch: The command, its environment and its files.
        folder: The step's folder; the files and log.txt are written to it.
        follow: Called several times per second while the processes run: shows progress, and answers signals.
        grace: Returns the seconds between SIGTERM and SIGKILL, also while they pass.
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
            _end_all(process, grace)
            raise
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


def _end_all(process: subprocess.Popen[bytes], grace: Callable[[], float]) -> None:
    """End a process and everything it started, also what has a process group of its own."""
    started = psutil.Process(process.pid).children(recursive=True)
    _signal_group(process, signal.SIGTERM)
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < grace():
        time.sleep(_POLL / 4)
    _signal_group(process, signal.SIGKILL)  # processes that ignored SIGTERM
    process.wait()
    begun = time.monotonic()
    while any(map(_is_alive, started)) and time.monotonic() - begun < min(grace(), _AFTER_PARENT):
        time.sleep(_POLL / 4)
    for each in filter(_is_alive, started):
        with suppress(psutil.NoSuchProcess):
            each.kill()


def _is_alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
