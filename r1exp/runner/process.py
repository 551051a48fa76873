"""Runs the processes of a step: their output goes to log.txt, and nothing that they start outlives them or the parent."""

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import psutil

from r1exp.files import write_text
from r1exp.launcher.base import Launch
from r1exp.launcher.fork_client import ForkedTree, is_off, last_output, start_server
from r1exp.launcher.keeper import ticks_of
from r1exp.launcher.process_tree import ProcessTree, Tree
from r1exp.launcher.scratch import scratch
from r1exp.paths import StepPaths
from r1exp.terminal import say

PARENT_VARIABLE = "R1EXP_PARENT"  # "pid:start" of the parent; workers end when that process has ended
# A scheduler, an outer torchrun or a notebook may have set these variables; the launcher sets them again. torchrun takes
# every option from PET_* that its command does not state.
_RENDEZVOUS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_POLL = 0.2  # seconds between two checks of the process


def run_process(
    launch: Launch,
    folder: Path,
    follow: Callable[[], None],
    grace: Callable[[], float] = lambda: 20.0,
    has_started: Callable[[int], None] = lambda pid: None,
) -> int:
    """Run a step's processes to their end and return the exit status.

    No process that was started is left when this returns. An exception of `follow` ends them all. They also end where
    this process is killed.

    Args:
        launch: The command, its environment and its files.
        folder: The step's folder; the files and log.txt are written to it.
        follow: Called several times per second while the processes run: shows progress, and answers signals.
        grace: Returns the seconds between SIGTERM and SIGKILL, also while they pass.
        has_started: Receives the process id of the command.

    Raises:
        OSError: the command does not exist.
    """
    if shutil.which(launch.arguments[0]) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), launch.arguments[0])
    for name, text in launch.files.items():
        write_text(folder / name, text)
    with scratch(folder) as own, StepPaths(folder).log().open("ab") as log:
        environment = {**inherited_environment(), **own, **launch.environment, PARENT_VARIABLE: parent_mark()}
        tree = _forked(launch, environment, log, follow) or ProcessTree(launch.arguments, environment, log)
        has_started(tree.pid)
        try:
            while tree.poll() is None:
                follow()
                tree.pause(_POLL)
        except BaseException:
            _end_all(tree, grace)
            raise
    assert tree.returncode is not None
    return tree.returncode


def _forked(
    launch: Launch, environment: dict[str, str], log: IO[bytes], follow: Callable[[], None]
) -> Tree | None:
    """Return the processes of a step that a fork server has started; None where they need a fresh process."""
    if not launch.can_fork or is_off():
        return None
    try:
        tree = ForkedTree(launch.module, environment, log, launch.uses_deepspeed)
    except OSError as error:
        say(f"the step starts in a fresh process, for no fork server could be used: {error}")
        return None
    try:
        while tree.starts():
            follow()
            tree.pause(_POLL)
    except BaseException:
        tree.end()
        raise
    if tree.pid:
        return tree
    say(
        f"the fork server ended, and the step starts in a fresh process: {last_output() or 'it printed nothing'}"
    )
    return None


def prepare(launch: Launch) -> None:
    """Let the fork server for a step that runs soon import its libraries meanwhile, and do not wait for it."""
    if launch.can_fork and not is_off():
        start_server(inherited_environment() | launch.environment, launch.uses_deepspeed)


def inherited_environment() -> dict[str, str]:
    """Return the environment of this process, without what would tell ranks to meet elsewhere."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _RENDEZVOUS and not name.startswith("PET_")
    }


def parent_mark() -> str:
    """Return this process's id and start, which together identify it."""
    return f"{os.getpid()}:{_start_of(os.getpid())}"


def parent_is_gone(mark: str) -> bool:
    """Whether the process that `parent_mark` identified has ended, also if no process has waited for it."""
    pid, _, started = mark.partition(":")
    return _start_of(int(pid)) != int(started)


def _start_of(pid: int) -> int | None:
    """Return a number that two processes with the same id do not share; None if the process has ended."""
    if Path("/proc/self/stat").exists():
        return ticks_of(pid)
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time())
    except psutil.NoSuchProcess:
        return None


def _end_all(tree: Tree, grace: Callable[[], float]) -> None:
    """End a command and everything it started; `grace` is 0 from a second signal on."""
    tree.terminate()
    begun = time.monotonic()
    while tree.poll() is None and time.monotonic() - begun < grace():
        time.sleep(_POLL / 4)
    tree.end()
