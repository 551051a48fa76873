"""Runs the members of a sweep, one after the other or several side by side, and records them in `sweep.json`.

With `sweep.parallel=1` a member runs in this process and shows its progress. Otherwise each member is a process of its
own (`r1exp.runner.member`), which writes to `<member>/run.log` and gets a share of the cores and of the GPUs.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from r1exp.errors import ExitCode, R1ExpError
from r1exp.files import read_json_object
from r1exp.paths import RunPaths, SweepPaths
from r1exp.plan.members import Member, member_of
from r1exp.plan.step_range import WHOLE, StepRange
from r1exp.report.summary import headline
from r1exp.report.sweep import why_without_objective
from r1exp.report.sweep_table import add_row, write_rows
from r1exp.runner.process import PARENT_VARIABLE, parent_mark
from r1exp.runner.run_directory import perform, start_run
from r1exp.runner.slurm_submit import job_ids
from r1exp.terminal import say, show

_POLL = 0.2  # seconds between two looks at the processes
_ENDINGS = (ExitCode.INTERRUPTED, ExitCode.PREEMPTED)  # exit codes after which no further member starts


@dataclass(frozen=True)
class Task:
    """A member that is to run."""

    number: int
    arguments: tuple[str, ...]  # its overrides
    member: Member | None = None  # its plan; None: composed and planned when it starts
    own: tuple[str, ...] = ()  # the overrides that not every member has

    @property
    def title(self) -> str:
        """The member as messages name it."""
        return " ".join(["member", str(self.number), *self.own])


@dataclass
class MemberRuns:
    """The members that have ended or were submitted."""

    folder: Path  # of the sweep
    parallel: int  # members at once
    devices: tuple[str, ...] = ()  # GPUs that the members running at once divide among themselves
    span: StepRange = WHOLE  # the steps that may run
    rows: list[dict[str, Any]] = field(default_factory=list)
    codes: list[ExitCode] = field(default_factory=list)

    def run(self, tasks: Sequence[Task]) -> bool:
        """Run members and write their rows; return whether further ones may start."""
        try:
            if self.parallel > 1:
                return self._side_by_side(list(tasks))
            return all(self._in_this_process(task) for task in tasks)
        finally:
            write_rows(self.folder)

    def row(self, number: int) -> dict[str, Any] | None:
        """Return the row of a member; None if it did not start."""
        name = SweepPaths(self.folder).member(number).name
        return next((row for row in self.rows if row["member"] == name), None)

    def _in_this_process(self, task: Task) -> bool:
        summary: dict[str, Any] = {}
        reason, job = "", None
        try:
            planned = task.member or member_of(task.arguments, span=self.span, is_compared=True)
            folder = SweepPaths(self.folder).member(task.number)
            code, summary, job = perform(
                start_run(planned.experiment, planned.steps, folder, is_compared=True)
            )
        except R1ExpError as error:
            code, reason = error.exit_code, str(error)
        self._record(task, code, reason, summary, job)
        return job is not None or code not in _ENDINGS

    def _side_by_side(self, waiting: list[Task]) -> bool:
        """Keep up to `parallel` processes running until every member has ended."""
        running: dict[
            int, tuple[Task, subprocess.Popen[bytes]]
        ] = {}  # by the share of the machine that it uses
        may_start = True
        with _forwarding(running) as stopped:
            while running or (waiting and may_start):
                may_start = may_start and not stopped
                while waiting and may_start and len(running) < self.parallel:
                    share = next(number for number in range(self.parallel) if number not in running)
                    task = waiting.pop(0)
                    process = self._started(task, share)
                    if process is not None:
                        running[share] = (task, process)
                for share, (task, process) in list(running.items()):
                    if process.poll() is not None:
                        del running[share]
                        may_start = self._ended(task, process.returncode) and may_start
                time.sleep(_POLL)
        return may_start and not stopped

    def _started(self, task: Task, share: int) -> subprocess.Popen[bytes] | None:
        """Start a member; None if it was refused, which is recorded."""
        folder = SweepPaths(self.folder).member(task.number)
        try:
            planned = task.member or member_of(task.arguments, span=self.span, is_compared=True)
            start_run(planned.experiment, planned.steps, folder, is_compared=True)
        except R1ExpError as error:
            self._record(task, error.exit_code, str(error), {}, None)
            return None
        log = RunPaths(folder).log
        say(f"{task.title}: starts; its output is in {log}")
        environment = os.environ | {PARENT_VARIABLE: parent_mark()}
        if self.devices:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(share_of(self.devices, share, self.parallel))
        command = [sys.executable, "-m", "r1exp.runner.member", str(folder), str(share), str(self.parallel)]
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C signals only this process, which passes it on
            )

    def _ended(self, task: Task, status: int) -> bool:
        """Record a member whose process has ended; return whether the next one may start."""
        folder = SweepPaths(self.folder).member(task.number)
        code = ExitCode(status) if status in set(ExitCode) else ExitCode.FAILED
        path = RunPaths(folder).summary
        summary = read_json_object(path)
        reason = "" if summary else f"its process ended with status {status}; see {RunPaths(folder).log}"
        jobs = job_ids(folder)
        self._record(task, code, reason, summary, jobs[-1] if jobs else None)
        return code not in _ENDINGS

    def _record(
        self, task: Task, code: ExitCode, reason: str, summary: dict[str, Any], job: int | None
    ) -> None:
        """Write the row of a member that ended or was submitted, and show its result."""
        folder = SweepPaths(self.folder).member(task.number)
        row = {
            "member": folder.name,
            "overrides": list(task.arguments),
            "exit_code": int(code),
            "reason": reason,
        }
        self.codes.append(code)
        self.rows.append(row | ({} if job is None else {"job_id": job}) | summary)
        add_row(self.folder, self.rows[-1])
        if reason:
            done = reason
        elif summary and summary["state"] != "done":
            done = why_without_objective(summary)
        else:
            done = headline(summary, folder) if summary else f"job {job}"
        show(f"{task.title}: {done}")


def share_of(items: Sequence[Any], share: int, num_shares: int) -> list[Any]:
    """Return the share with the number `share` of `items`; where there are too few, one of them."""
    each = len(items) // num_shares
    if each == 0:
        return [items[share % len(items)]]
    return list(items[share * each : (share + 1) * each])


@contextmanager
def _forwarding(running: dict[int, tuple[Task, subprocess.Popen[bytes]]]) -> Iterator[list[int]]:
    """Pass signals on to the members within the block; yield the list of signals that were received."""
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        if len(received) == 1:
            say("\nthe running members save a checkpoint and end; a second Ctrl-C ends them at once")
        for _, process in running.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    if (
        threading.current_thread() is not threading.main_thread()
    ):  # as in a notebook, where signals cannot be handled
        yield received
        return
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, forward) for number in handled}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
