"""Runs members of a sweep as processes side by side, each with its share of the machine.

Which member starts next: the first of those that wait whose next step is not executed already. A step that several members
have in common is thus trained by one of them, while the others wait without a process, and do not take the place of a
member that can go on. Where another process on this machine executes the step (another sweep), or a member comes to such a
step later, it ends (`r1exp.runner.member.WAITS`) and waits in the same way.

The first signal is passed on: the members save and end, and no further one starts. They pass further ones on to their ranks,
which end at once.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from r1exp.errors import ExitCode, R1ExpError
from r1exp.paths import RunPaths, StorePaths
from r1exp.plan.members import Member
from r1exp.plan.run_plan import PlanStep
from r1exp.runner.member import WAITS, share_of
from r1exp.runner.members_screen import MembersScreen
from r1exp.runner.process import PARENT_VARIABLE, parent_mark
from r1exp.runner.run_directory import start_run
from r1exp.runner.store import is_leased
from r1exp.step.status import read_status

_POLL = 0.2  # seconds between two looks at the processes
_LOOK = 1.0  # seconds between two looks at members that wait for the steps of others


@dataclass(frozen=True)
class Machine:
    """What the members that run at once divide among themselves."""

    parallel: int  # members at once
    devices: tuple[str, ...] = ()  # GPUs; none where they compute on the CPU
    members_per_device: int = 1  # members that share a GPU

    def environment(self, share: int) -> dict[str, str]:
        """Return the variable that shows a share its GPUs; nothing on a CPU."""
        if not self.devices:
            return {}
        groups = -(-self.parallel // self.members_per_device)
        return {"CUDA_VISIBLE_DEVICES": ",".join(share_of(self.devices, share % groups, groups))}


@dataclass(frozen=True)
class Waiting:
    """A member that is to run."""

    number: int
    title: str  # as messages name it
    folder: Path  # its run directory
    plan: Callable[[], Member]  # composes and plans it, once


@dataclass(frozen=True)
class _Running:
    task: Waiting
    steps: tuple[PlanStep, ...]
    store: Path
    process: subprocess.Popen[bytes]


class SideBySide:
    """Keeps as many members running as the machine has shares.

    Args:
        machine: What they divide.
        screen: Shows them.
        refused: Receives a member that cannot start, and the error.
        ended: Receives a member whose process ended, and its exit code; returns whether further members may start.
    """

    def __init__(
        self,
        machine: Machine,
        screen: MembersScreen,
        refused: Callable[[int, R1ExpError], None],
        ended: Callable[[int, int, ExitCode | None], bool],
    ) -> None:
        self._machine, self._screen = machine, screen
        self._refused, self._ended = refused, ended
        self._running: dict[int, _Running] = {}  # by the share of the machine
        self.signals: list[int] = []  # received while they ran
        self._next_look = 0.0  # when those that wait are looked at again, in seconds of the monotonic clock

    def run(self, waiting: list[Waiting]) -> bool:
        """Run all members; return whether further ones may start."""
        may_start, is_told = True, False
        with self._forwarding():
            while self._running or (waiting and may_start):
                may_start = may_start and not self.signals
                while may_start and time.monotonic() >= self._next_look and self._start_one(waiting):
                    pass
                if self.signals and not is_told:
                    is_told = True
                    self._screen.note(
                        "the running members save a checkpoint and end; a second Ctrl-C ends them at once"
                    )
                for share, running in list(self._running.items()):
                    status = running.process.poll()
                    if status is None:
                        continue
                    del self._running[share]
                    self._next_look = 0.0
                    if status == WAITS and not self.signals:
                        self._screen.gave_way(running.task.number)
                        waiting.insert(0, running.task)
                    else:
                        may_start = self._ended(running.task.number, status, self.asked()) and may_start
                self._screen.follow()
                time.sleep(_POLL)
        return may_start and not self.signals

    def asked(self) -> ExitCode | None:
        """Return how members end after the signal that was received; None without one."""
        if not self.signals:
            return None
        return ExitCode.PREEMPTED if self.signals[0] == signal.SIGUSR1 else ExitCode.INTERRUPTED

    def _start_one(self, waiting: list[Waiting]) -> bool:
        """Start the first member that has something to do; return whether there was one, and a free share."""
        free = [share for share in range(self._machine.parallel) if share not in self._running]
        if not free:
            return False
        current = (
            next(left(other.task.folder, other.steps, other.store), None) for other in self._running.values()
        )
        executed = {step.slot for step in current if step is not None}
        for position, task in enumerate(waiting):
            try:
                planned = task.plan()
            except R1ExpError as error:
                del waiting[position]
                self._refused(task.number, error)
                return True
            store = store_of(planned)
            following = next(left(task.folder, planned.steps, store), None)
            if following is not None and (following.slot in executed or is_leased(store, following.slot)):
                continue
            del waiting[position]
            self._start(task, planned, free[0])
            return True
        self._next_look = time.monotonic() + _LOOK
        return False

    def _start(self, task: Waiting, planned: Member, share: int) -> None:
        try:
            with self._screen.hidden():
                start_run(planned.experiment, planned.steps, task.folder, is_compared=True)
        except R1ExpError as error:
            self._refused(task.number, error)
            return
        log = RunPaths(task.folder).log
        RunPaths(task.folder).summary.unlink(missing_ok=True)  # of an earlier start
        if not self._screen.is_terminal:
            self._screen.note(f"{task.title}: starts; its output is in {log}")
        environment = os.environ | {PARENT_VARIABLE: parent_mark()} | self._machine.environment(share)
        numbers = (str(share), str(self._machine.parallel))
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "r1exp.runner.member", str(task.folder), *numbers],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C signals only this process, which passes it on
            )
        self._running[share] = _Running(task, planned.steps, store_of(planned), process)
        self._screen.started(task.number, task.title, task.folder, planned.steps)

    @contextmanager
    def _forwarding(self) -> Iterator[None]:
        """Pass signals on to the members within the block."""

        def forward(number: int, frame: FrameType | None) -> None:
            del frame
            self.signals.append(number)
            for running in self._running.values():
                with suppress(ProcessLookupError):
                    running.process.send_signal(number)

        if threading.current_thread() is not threading.main_thread():
            yield  # as in a notebook, where signals cannot be handled
            return
        handled = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        before = {number: signal.signal(number, forward) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def left(folder: Path, steps: Sequence[PlanStep], store: Path) -> Iterator[PlanStep]:
    """Yield the steps of a member that may run and are finished neither in its folder nor in the store, in their order.

    Args:
        folder: The run directory of the member.
        steps: Its planned steps.
        store: The step store.
    """
    finished = StorePaths(store).steps
    for step in steps:
        if not step.runs or (finished / step.slot).is_dir():
            continue
        status = read_status(step.paths(folder).folder) if folder.is_dir() else None
        if status is None or status.state != "done":
            yield step


def store_of(member: Member) -> Path:
    """Return the step store of a member."""
    return Path(member.experiment.run.paths.store)
