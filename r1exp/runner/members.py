"""Runs the members of a sweep, one after the other or several side by side, and records them in `sweep.json`.

With `sweep.parallel=1` a member runs in this process and shows its progress. Otherwise each member is a process of its
own (`r1exp.runner.side_by_side`), which writes to `<member>/run.log` and gets a share of the cores and of the GPUs. With
launcher=slurm the members are submitted as an array (`r1exp.runner.slurm_array`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from r1exp.errors import ExitCode, R1ExpError
from r1exp.files import read_json_object
from r1exp.launcher.slurm_client import JobId
from r1exp.paths import RunPaths, SweepPaths
from r1exp.plan.members import Member, member_of
from r1exp.plan.run_plan import RunPlan
from r1exp.plan.side_by_side import at_once_of
from r1exp.plan.slurm_job import job_of
from r1exp.plan.step_range import WHOLE, StepRange
from r1exp.report.summary import headline
from r1exp.report.sweep import why_without_objective
from r1exp.report.sweep_table import add_row, write_rows
from r1exp.runner.members_screen import MembersScreen
from r1exp.runner.run_directory import perform, start_run
from r1exp.runner.side_by_side import Machine, SideBySide, Waiting, left, store_of
from r1exp.runner.slurm_array import submit_members
from r1exp.runner.slurm_submit import job_ids
from r1exp.terminal import show

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

    @property
    def is_job(self) -> bool:
        """Whether it is a job of SLURM that nothing waits for."""
        if self.member is None:
            return False
        job = job_of(self.member.experiment.run, self.member.steps)
        return job is not None and not job.wait


@dataclass
class MemberRuns:
    """The members that have ended or were submitted."""

    folder: Path  # of the sweep
    parallel: int  # members at once
    devices: tuple[str, ...] = ()  # GPUs that the members running at once divide among themselves
    span: StepRange = WHOLE  # the steps that may run
    rows: list[dict[str, Any]] = field(default_factory=list)
    codes: list[ExitCode] = field(default_factory=list)
    members_per_device: int = 1  # members that share a GPU

    def run(self, tasks: Sequence[Task]) -> bool:
        """Run members and write their rows; return whether further ones may start."""
        try:
            if self.parallel > 1:
                return self._side_by_side(tasks)
            if len(tasks) > 1 and all(task.is_job for task in tasks):
                return self._as_array(tasks)
            return all(self._in_this_process(task) for task in tasks)
        finally:
            write_rows(self.folder)

    def row(self, number: int) -> dict[str, Any] | None:
        """Return the row of a member; None if it did not start."""
        name = SweepPaths(self.folder).member(number).name
        return next((row for row in self.rows if row["member"] == name), None)

    def _in_this_process(self, task: Task) -> bool:
        summary: dict[str, Any] = {}
        reason = ""
        job: JobId | None = None
        try:
            planned = self._planned(task)
            folder = SweepPaths(self.folder).member(task.number)
            code, summary, job = perform(
                start_run(planned.experiment, planned.steps, folder, is_compared=True)
            )
        except R1ExpError as error:
            code, reason = error.exit_code, str(error)
        show(self._record(task, code, summary, job, reason))
        return job is not None or code not in _ENDINGS

    def _planned(self, task: Task) -> Member:
        return task.member or member_of(task.arguments, span=self.span, is_compared=True)

    def _as_array(self, tasks: Sequence[Task]) -> bool:
        """Submit members as the elements of an array; those that are finished only get their row."""
        plans: dict[int, RunPlan] = {}
        by_number = {task.number: task for task in tasks}
        for task in tasks:
            folder = SweepPaths(self.folder).member(task.number)
            try:
                planned = self._planned(task)
                run = start_run(planned.experiment, planned.steps, folder, is_compared=True)
                if run.is_complete():
                    show(self._record(task, *run.execute(), None))
                else:
                    plans[task.number] = run.plan
            except R1ExpError as error:
                show(self._record(task, error.exit_code, {}, None, str(error)))
        for number, job in submit_members(self.folder, plans, at_once_of(plans.values())).items():
            if isinstance(job, R1ExpError):
                show(self._record(by_number[number], job.exit_code, {}, None, str(job)))
            else:
                show(self._record(by_number[number], ExitCode.DONE, {}, job))
        return True

    def _side_by_side(self, tasks: Sequence[Task]) -> bool:
        """Run members as processes; those that have nothing left to do, in this process first."""
        waiting = []
        for task in tasks:
            if not self._has_all(task):
                waiting.append(task)
            elif not self._in_this_process(task):
                return False
        by_number = {task.number: task for task in waiting}
        screen = MembersScreen(len(waiting), self.parallel)

        def refused(number: int, error: R1ExpError) -> None:
            code = error.exit_code
            screen.ended(
                number, code.name.lower(), self._record(by_number[number], code, {}, None, str(error))
            )

        def ended(number: int, status: int, asked: ExitCode | None) -> bool:
            text = self._record_ended(by_number[number], status, asked)
            screen.ended(number, self._state(), _in_short(text, self.rows[-1]))
            return self.codes[-1] not in _ENDINGS

        if screen.is_terminal and waiting:
            screen.note(f"the output of a member is in {RunPaths(self.folder / 'MEMBER').log}")
        machine = Machine(self.parallel, self.devices, self.members_per_device)
        processes = SideBySide(machine, screen, refused, ended)
        try:
            may_start = processes.run([self._waiting(task) for task in waiting])
        finally:
            screen.close()
        asked = processes.asked()
        if asked is not None and not set(self.codes) & set(_ENDINGS):
            self.codes.append(asked)
        return may_start

    def _has_all(self, task: Task) -> bool:
        """Whether every step of a member is finished, so that only its report is to be written."""
        if task.member is None:
            return False
        folder = SweepPaths(self.folder).member(task.number)
        return next(left(folder, task.member.steps, store_of(task.member)), None) is None

    def _waiting(self, task: Task) -> Waiting:
        folder = SweepPaths(self.folder).member(task.number)
        return Waiting(task.number, task.title, folder, cache(lambda: self._planned(task)))

    def _state(self) -> str:
        """Return the state of the member that was recorded last."""
        return str(self.rows[-1].get("state") or self.codes[-1].name.lower())

    def _record_ended(self, task: Task, status: int, asked: ExitCode | None) -> str:
        """Record a member whose process has ended, and return its result as a line.

        Args:
            task: The member.
            status: Exit status of its process.
            asked: How a member ended that was asked to end before it could answer; None: it was not asked.
        """
        folder = SweepPaths(self.folder).member(task.number)
        code = ExitCode(status) if status in set(ExitCode) else asked or ExitCode.FAILED
        summary = read_json_object(RunPaths(folder).summary) if status in set(ExitCode) else {}
        reason = "" if summary else f"its process ended with status {status}; see {RunPaths(folder).log}"
        if not summary and asked is not None:
            reason = "ended before it had begun; the same command starts it"
        jobs = job_ids(folder)
        return self._record(task, code, summary, jobs[-1] if jobs else None, reason)

    def _record(
        self,
        task: Task,
        code: ExitCode,
        summary: dict[str, Any],
        job: JobId | None,
        reason: str = "",
    ) -> str:
        """Write the row of a member that ended or was submitted, and return its result as a line."""
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
        return f"{task.title}: {done}"


def _in_short(text: str, row: dict[str, Any]) -> str:
    """Return the first line of a result; of a member that is done, its objective and its time."""
    first, *rest = text.splitlines()
    if row.get("state") != "done" or not rest:
        return first
    title = first.partition(": ")[0]
    objective = row.get("objective")
    return f"{title}: {'' if objective is None else f'objective {objective:.4g}, '}{rest[-1]}"
