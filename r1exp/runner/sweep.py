"""Runs a command line: one run, or the members of a sweep one after the other.

Every member is composed, validated and planned before the first one starts, and those plans are what runs: editing
conf/ in between changes nothing. A member that fails does not stop the others. A sweeper that chooses values by the
results of earlier members (`hydra/sweeper=...`) composes each member when its values are known.
"""

import fcntl
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1exp.config.compose import search_path_of, session
from r1exp.errors import ExitCode, R1ExpError, Refused
from r1exp.files import why_not_written, write_json
from r1exp.launcher.fork_client import fork_servers
from r1exp.paths import SweepPaths
from r1exp.plan.members import BASIC, Command, Member, command_of, design_of, members_of
from r1exp.plan.power import forecast
from r1exp.plan.race import race_of
from r1exp.plan.side_by_side import parallel_of
from r1exp.plan.slurm_job import job_of
from r1exp.plan.step_range import WHOLE, StepRange
from r1exp.report.objectives import ONLY_ACCURACY
from r1exp.report.summary import headline
from r1exp.report.sweep import sweep_report
from r1exp.report.write import write_pages_if_possible
from r1exp.runner.members import MemberRuns, Task
from r1exp.runner.nodes import OtherNode
from r1exp.runner.race import run_race
from r1exp.runner.run_directory import perform, start_run
from r1exp.runner.slurm_submit import refuse_job
from r1exp.runner.sweeper import directions_of, run_sweeper
from r1exp.terminal import say, show

_FOLDER_KEY = "hydra.sweep.dir="


def run_members(
    arguments: Sequence[str],
    is_multirun: bool,
    config_dirs: Sequence[Path],
    span: StepRange = WHOLE,
    further: Sequence[Sequence[str]] = (),
) -> ExitCode:
    """Plan every member of a command line, then run them; return the worst exit code.

    Args:
        arguments: Overrides.
        is_multirun: Whether -m was typed.
        config_dirs: Folders of the user with config groups.
        span: The steps that may run.
        further: Command lines whose members are run in the same sweep.
    """
    folders, arguments = search_path_of(arguments)
    with session(config_dirs, folders), fork_servers():
        command = command_of(arguments, is_multirun, span)
        members = members_of(command)
        for other in further:
            members += members_of(command_of(other, is_multirun, span))
        _refuse_jobs(members, command.sweeper)
        race = race_of(command, members)
        _refuse_unmeasured(command, members)
        _refuse_sweep_over_nodes(command, members)
        if not command.is_sweep:
            (member,) = members
            if member.experiment.run.launcher.index_of_this_node > 0:
                return _follow(member)
            run = start_run(member.experiment, member.steps)
            code, summary, job = perform(run)
            show(_result(run.folder, summary, job))
            return code
        parallel = parallel_of(command, members)
        is_typed = any(text.startswith(_FOLDER_KEY) for text in arguments)
        sweep = MemberRuns(
            _own_folder(command.composition.sweep_folder(), is_typed),
            parallel.number,
            parallel.devices,
            span,
            members_per_device=members[0].experiment.run.sweep.members_per_device,
        )
        if parallel.number > 1:
            say(f"{len(members)} members, {parallel.text}" if not command.is_optimization else parallel.text)
        code = ExitCode.DONE
        objectives = members[0].experiment.run.sweep.objectives
        if objectives != ONLY_ACCURACY:
            write_json(SweepPaths(sweep.folder).objectives, {"objectives": list(objectives)})
        try:
            if command.is_optimization:
                run_sweeper(command, sweep, objectives)
            elif race is not None:
                run_race(race, sweep)
            else:
                _write_facts(command, members, sweep.folder)
                sweep.run(_tasks(members))
        except Refused:
            raise
        except R1ExpError as error:
            say(f"r1exp: {error}")
            code = error.exit_code
        return max(code, _finish(sweep))


def _write_facts(command: Command, members: Sequence[Member], folder: Path) -> None:
    """Write the design of a sweep, and which differences it is expected to see, beside its table."""
    design = design_of(command)
    if design is not None:
        write_json(SweepPaths(folder).design, design.to_json())
    expected = forecast(members, design)
    if not isinstance(expected, str):
        write_json(SweepPaths(folder).power, expected.to_json())


def _follow(member: Member) -> ExitCode:
    """Follow the first node, which runs this command too; return its exit code."""
    for step in member.steps:
        step.config.launcher.refuse_unready()
    run = member.experiment.run
    assert run.paths.run is not None  # _refuse_sweep_over_nodes
    try:
        return OtherNode(Path(run.paths.run), run.launcher, member.steps).follow()
    except R1ExpError as error:
        say(f"r1exp: {error}")
        return error.exit_code


def _refuse_sweep_over_nodes(command: Command, members: Sequence[Member]) -> None:
    """Refuse several nodes where they could not agree on the folder of a run."""
    run = members[0].experiment.run
    if run.launcher.num_followers == 0:
        return
    if command.is_sweep:
        raise Refused(
            f"launcher={run.launcher.kind} on {run.launcher.num_nodes} nodes runs one run for each command; type a command for "
            "each member, with a paths.run of its own, or use launcher=slurm"
        )
    if run.paths.run is None:
        raise Refused(
            f"launcher={run.launcher.kind}: all {run.launcher.num_nodes} nodes write to one run directory; type paths.run=DIR, a "
            "folder on a disk that they share"
        )


def _own_folder(folder: Path, is_typed: bool) -> Path:
    """Return the folder of a sweep, made if needed and locked until this process ends.

    Args:
        folder: As composed.
        is_typed: Whether it was typed. Else its name is a time, and sweeps that start in the same second get a number.

    Raises:
        Refused: it cannot be written, or another sweep runs in the folder that was typed.
    """
    own, number = folder, 1
    try:
        while True:
            own.mkdir(parents=True, exist_ok=True)
            handle = os.open(own, os.O_RDONLY)  # stays open until the process ends
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                if is_typed:
                    raise Refused(
                        f"{folder}: another sweep runs in this folder; set another hydra.sweep.dir=DIR"
                    ) from None
                number += 1
                own = folder.with_name(f"{folder.name}-{number}")
            except OSError:  # a file system without locks
                return own
            else:
                return own
    except OSError as error:
        raise Refused(f"{why_not_written(error, own)}; set hydra.sweep.dir=DIR") from error


def _tasks(members: Sequence[Member]) -> list[Task]:
    common = set.intersection(*(set(member.arguments) for member in members))
    return [
        Task(number, member.arguments, member, tuple(text for text in member.arguments if text not in common))
        for number, member in enumerate(members)
    ]


def _finish(sweep: MemberRuns) -> ExitCode:
    """Show the report of a sweep, or how to follow its jobs; return the worst exit code."""
    if any("job_id" in row and "state" not in row for row in sweep.rows):
        show(f"`r1exp sweep status {shlex.quote(str(sweep.folder))}` shows their states")
    elif any(code == ExitCode.DONE for code in sweep.codes):
        show(sweep_report(sweep.folder))
        write_pages_if_possible(sweep.folder)
    return max(sweep.codes, default=ExitCode.DONE)


def _refuse_unmeasured(command: Command, members: Sequence[Member]) -> None:
    """Refuse a sweeper that would receive no objective."""
    what = f"hydra/sweeper={command.sweeper}"
    if members[0].experiment.run.sweep.race:
        what = "sweep.race=true"
    elif not command.is_optimization:
        return
    evaluations = [
        step for step in members[0].steps if step.config.stage and step.config.stage.makes == "scores"
    ]
    if not evaluations or evaluations[-1].config.evaluation.samples == 0:
        raise Refused(
            f"{what} compares runs by the sampled accuracy of their last evaluation, and this run "
            "has none; type evaluation.after=true evaluation.samples=1"
        )
    if command.is_optimization:
        directions_of(command, members[0].experiment.run.sweep.objectives)


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


def _result(folder: Path, summary: dict[str, Any], job: int | None) -> str:
    """Return the last lines of a run that ended, or that SLURM accepted."""
    if summary:
        return headline(summary, folder)
    return f"job {job} submitted: {folder}; `r1exp sweep status {shlex.quote(str(folder))}` shows its state"
