"""Runs a command line: one run, or the members of a sweep one after the other.

Every member is composed, validated and planned before the first one starts, and those plans are what runs: editing
conf/ in between changes nothing. A member that fails does not stop the others. A sweeper that chooses values by the
results of earlier members (`hydra/sweeper=...`) composes each member when its values are known.
"""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from r1exp.config.compose import search_path_of, session
from r1exp.config.targets import flat
from r1exp.errors import ExitCode, R1ExpError, Refused
from r1exp.files import write_json
from r1exp.paths import SweepPaths
from r1exp.plan.members import BASIC, Command, Member, command_of, member_of, members_of
from r1exp.plan.slurm_job import job_of
from r1exp.report.summary import headline
from r1exp.report.sweep import sweep_report
from r1exp.runner.run_directory import perform, start_run
from r1exp.runner.slurm_submit import refuse_job
from r1exp.terminal import show


def run_members(arguments: Sequence[str], is_multirun: bool, config_dirs: Sequence[Path]) -> ExitCode:
    """Plan every member of a command line, then run them; return the worst exit code."""
    folders, arguments = search_path_of(arguments)
    with session(config_dirs, folders):
        command = command_of(arguments, is_multirun)
        members = members_of(command)
        _refuse_jobs(members, command.sweeper)
        if not command.is_sweep:
            (member,) = members
            run = start_run(member.experiment, member.steps)
            code, summary, job = perform(run)
            show(_result(run.folder, summary, job))
            return code
        sweep = _Sweep(command.composition.sweep_folder())
        if command.sweeper == BASIC:
            for number, member in enumerate(members):
                if not sweep.run(number, member.arguments, member):
                    break
        else:
            _run_sweeper(command, sweep)
        return sweep.finish()


def _refuse_jobs(members: Sequence[Member], sweeper: str) -> None:
    """Check every kind of job among the members with SLURM, before anything is written."""
    jobs = {job: member for member in members if (job := job_of(member.experiment.run, member.steps))}
    for job, member in jobs.items():
        if not job.wait and sweeper != BASIC:
            raise Refused(
                f"hydra/sweeper={sweeper} chooses values by the results of earlier runs, and launcher=slurm "
                "does not wait for them; add launcher.wait=true"
            )
        refuse_job(job, member.experiment.name)


@dataclass
class _Sweep:
    """The members that have ended or were submitted, recorded in `sweep.json`."""

    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    codes: list[ExitCode] = field(default_factory=list)

    def run(self, number: int, arguments: Sequence[str], member: Member | None = None) -> bool:
        """Run a member and write its row; return whether the next one may start.

        Args:
            number: Of the member.
            arguments: Its overrides.
            member: Its plan; None: composed and planned now. A failure is recorded, and the others go on.
        """
        folder = SweepPaths(self.folder).member(number)
        summary: dict[str, Any] = {}
        reason, job = "", None
        try:
            planned = member or member_of(arguments)
            code, summary, job = perform(
                start_run(planned.experiment, planned.steps, folder, is_compared=True)
            )
        except R1ExpError as error:
            code, reason = error.exit_code, str(error)
        self.codes.append(code)
        row = {
            "member": folder.name,
            "overrides": list(arguments),
            "exit_code": int(code),
            "reason": reason,
        }
        self.rows.append(row | ({} if job is None else {"job_id": job}) | summary)
        write_json(SweepPaths(self.folder).table, self.rows)
        done = headline(summary, folder) if summary else f"job {job}"
        show(f"member {folder.name} {' '.join(arguments)}: {reason or done}")
        return job is not None or code not in (ExitCode.INTERRUPTED, ExitCode.PREEMPTED)

    def objective(self) -> float:
        """Return the objective of the last member; NaN where it has none."""
        value = self.rows[-1].get("objective")
        return math.nan if value is None else float(value)

    def finish(self) -> ExitCode:
        """Show the report of a sweep, or how to follow its jobs; return the worst exit code."""
        if any("job_id" in row for row in self.rows):
            show(f"`r1exp sweep status {shlex.quote(str(self.folder))}` shows their states")
        elif any(code == ExitCode.DONE for code in self.codes):
            show(sweep_report(self.folder))
        return max(self.codes, default=ExitCode.DONE)


def _run_sweeper(command: Command, sweep: _Sweep) -> None:
    """Let Hydra's sweeper plug-in choose the members' values; it receives each member's objective."""
    plain = {override.key for override in command.overrides if override.is_plain and not override.is_group}

    def one_member(config: DictConfig) -> float:
        hydra = HydraConfig.get()
        arguments = [_as_typed(text, plain) for text in hydra.overrides.task]
        if not sweep.run(int(hydra.job.num), arguments):
            raise KeyboardInterrupt  # Hydra treats every other exception as the failure of one member
        return sweep.objective()

    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    hydra.multirun("config", one_member, _for_sweeper(command), with_log_configuration=False)


def _for_sweeper(command: Command) -> list[str]:
    """Return the overrides as the sweeper needs them: plain, so that a typed key replaces the sweep file's."""
    known = flat(command.composition.values)
    return [
        override.text
        if override.key in known or override.for_hydra() == override.text
        else f"++{override.text}"
        for override in command.overrides
    ]


def _as_typed(text: str, plain: set[str]) -> str:
    stripped = text.removeprefix("++")
    return stripped if stripped.partition("=")[0] in plain else text


def _result(folder: Path, summary: dict[str, Any], job: int | None) -> str:
    """Return the last lines of a run that ended, or that SLURM accepted."""
    if summary:
        return headline(summary, folder)
    return f"job {job} submitted: {folder}; `r1exp sweep status {shlex.quote(str(folder))}` shows its state"
