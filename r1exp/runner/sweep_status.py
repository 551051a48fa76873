"""Shows the state of each run of a sweep, and restarts unfinished runs: `r1exp sweep status|retry DIR`.

The progress is read from the member's files; SLURM reports whether its job still exists; the lease of its current step
shows whether a process on this machine executes it. The state `vanished` means that the processes of a run ended
without writing a status; `canceled`, that a user ended its job with scancel. A member whose files cannot be read here is shown with the reason, and the others as usual:
`damaged` if `retry` can run it again, `unknown` if not, because its plan cannot be read.
"""

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1exp.errors import ExitCode, R1ExpError, Refused
from r1exp.files import read_json_object, why_not_written
from r1exp.launcher import slurm_client
from r1exp.launcher.slurm_client import Job, JobId
from r1exp.paths import RunPaths, SweepPaths
from r1exp.plan.run_plan import PlanStep, RunPlan, has_plan, read_plan
from r1exp.plan.side_by_side import at_once_of
from r1exp.plan.slurm_job import job_of
from r1exp.report.race import race_status
from r1exp.report.sweep_table import add_row, rows_of, write_rows
from r1exp.runner.run import Run
from r1exp.runner.slurm_array import submit_members
from r1exp.runner.slurm_submit import is_canceled, job_ids, note_canceled, submit_run
from r1exp.runner.store import is_leased
from r1exp.step.status import EXIT_CODES, Status, read_status
from r1exp.terminal import aligned, say, show
from r1exp.tracking.metrics import MetricsFile

RETRIED = ("failed", "interrupted", "preempted", "vanished", "damaged")
_SHOWN = 5  # sweeps that a message lists if none was named


@dataclass(frozen=True)
class MemberState:
    """State of one run of a sweep."""

    folder: Path
    overrides: tuple[str, ...]
    state: str  # done, running, pending, failed, stopped, preempted, interrupted, vanished, canceled, refused, damaged, unknown
    job: JobId | None
    step: str  # the current step, or the last one
    progress: str  # optimizer steps: done/total
    reason: str


def sweep_status(folder: Path) -> str:
    """Return a table with the state of every run of a sweep, or of a single run.

    Raises:
        Refused: `folder` is neither a sweep nor a run.
    """
    states = _known_states(folder)
    planned = [set(state.overrides) for state in states if state.state not in ("refused", "unknown")]
    common = set.intersection(*planned) if planned else set()
    rows = [("member", "job", "state", "step", "progress", "overrides")]
    for state in states:
        own = [text for text in state.overrides if text not in common]
        job = "-" if state.job is None else str(state.job)
        rows.append((state.folder.name, job, state.state, state.step, state.progress, " ".join(own)))
    lines = aligned(rows)
    for number, state in enumerate(states, start=1):
        if state.reason:
            lines[number] += f"\n    {state.reason}"
    counts = Counter(state.state for state in states)
    total = f"{len(states)} runs: " + ", ".join(f"{count} {name}" for name, count in counts.items())
    num_retried = sum(counts[name] for name in RETRIED)
    hint = f"\n`r1exp sweep retry {folder}` restarts {num_retried} of them" if num_retried else ""
    return "\n".join([*lines, total]) + hint + "\n" + race_status(folder)


def sweep_retry(folder: Path) -> ExitCode:
    """Restart every run of a sweep that has not finished, each in its own directory.

    Finished steps are kept, and a training step continues from its last checkpoint. Runs that a health rule
    stopped, or that were refused, are not restarted, because they would end the same way; runs that a user canceled only
    where `folder` is the run itself.
    """
    states = _known_states(folder)
    retried = (
        (*RETRIED, "canceled") if has_plan(folder) else RETRIED
    )  # a canceled run is restarted if it is named
    chosen = [state for state in states if state.state in retried and has_plan(state.folder)]
    unknown = [state for state in states if state.state == "unknown"]
    for state in unknown:
        say(f"{state.folder}: not restarted: {state.reason}")
    show(f"{len(chosen)} of {len(states)} runs are restarted")
    worst = ExitCode.REFUSED if unknown else ExitCode.DONE
    jobs = {} if has_plan(folder) else _plans_of_jobs(chosen)
    try:
        if len(jobs) > 1:
            worst = max(worst, _resubmit(folder, jobs))
        for state in chosen:
            if len(jobs) > 1 and state.folder.name.isdigit() and int(state.folder.name) in jobs:
                continue
            code = _retry(state)
            if code == ExitCode.INTERRUPTED:
                return code
            worst = max(worst, code)
    finally:
        write_rows(folder)
    return worst


def _plans_of_jobs(states: Sequence[MemberState]) -> dict[int, RunPlan]:
    """Return the plans of the members that are jobs of SLURM, by their numbers."""
    found = {}
    for state in states:
        try:
            plan = read_plan(state.folder)
            if state.folder.name.isdigit() and job_of(plan.config, plan.steps) is not None:
                found[int(state.folder.name)] = plan
        except R1ExpError:  # said when it is started alone
            continue
    return found


def _resubmit(sweep: Path, plans: Mapping[int, RunPlan]) -> ExitCode:
    """Submit members again, as an array; return the worst exit code."""
    worst = ExitCode.DONE
    for number, job in sorted(submit_members(sweep, plans, at_once_of(plans.values())).items()):
        folder = SweepPaths(sweep).member(number)
        if isinstance(job, R1ExpError):
            show(f"{folder}: {job}")
            worst = max(worst, job.exit_code)
            continue
        show(f"{folder}: job {job}")
        _update_row(folder.resolve(), {"job_id": job, "exit_code": 0, "reason": ""})
    return worst


def _retry(state: MemberState) -> ExitCode:
    run = state.folder.resolve()
    before = Path.cwd()
    try:
        plan = read_plan(run)
        if job_of(plan.config, plan.steps) is not None:
            number = submit_run(plan, run)
            show(f"{state.folder}: job {number}")
            _update_row(run, {"job_id": number, "exit_code": 0, "reason": ""})
            return ExitCode.DONE
        os.chdir(plan.working_directory)  # relative paths of the plan start there
        code, summary = Run(plan, run).execute()
        _update_row(run, {"exit_code": int(code), "reason": "", **summary})
        show(f"{state.folder}: {summary['state']}")
        return code
    except R1ExpError as error:  # the other runs continue
        show(f"{state.folder}: {error}")
        return error.exit_code
    except OSError as error:
        show(f"{state.folder}: {why_not_written(error, state.folder)}")
        return ExitCode.FAILED
    finally:
        os.chdir(before)


def _update_row(run: Path, values: dict[str, object]) -> None:
    """Update the row of a run in sweep.json."""
    sweep = RunPaths(run).sweep
    if sweep is not None and (sweep.table.exists() or sweep.added_rows.exists()):
        add_row(sweep.folder, {"member": run.name, **values})


def states_of(folder: Path) -> list[MemberState]:
    """Return the state of every run of a sweep, in order; for a single run, its state.

    Raises:
        Refused: `folder` contains no runs.
    """
    if not folder.is_dir():
        raise Refused(f"{folder}: there is no such folder.{_sweeps_below(Path('runs'))}")
    members = [folder] if has_plan(folder) else [path for path in folder.iterdir() if has_plan(path)]
    refused = _refused(folder, {member.name for member in members})
    if not members and not refused:
        table = SweepPaths(folder).table
        if table.exists() and not rows_of(folder):
            raise Refused(f"{table} is damaged or empty, and there are no runs beside it")
        raise Refused(f"{folder} is neither a sweep nor a run.{_sweeps_below(folder)}")
    newest = {member: _newest_job(member) for member in members}
    jobs = slurm_client.jobs(number for numbers in newest.values() for number in numbers)
    states = [_state(member, newest[member], jobs) for member in members] + refused
    return sorted(states, key=lambda state: (not state.folder.name.isdigit(), int(state.folder.name) if
                                             state.folder.name.isdigit() else 0, state.folder.name))  # fmt: skip


def _known_states(folder: Path) -> list[MemberState]:
    """Return `states_of` a folder; raise Refused if no run of it can be read."""
    states = states_of(folder)
    if all(state.state == "unknown" for state in states):
        raise Refused(states[0].reason)
    return states


def _newest_job(run: Path) -> tuple[JobId, ...]:
    """Return the id of the newest job of a run; none where the file that names it is damaged."""
    try:
        return job_ids(run)[-1:]
    except Refused as error:
        say(str(error))
        return ()


def _state(run: Path, ids: Sequence[JobId], jobs: dict[JobId, Job]) -> MemberState:
    try:
        plan = read_plan(run)
    except (
        Refused
    ) as error:  # written by another version, damaged, or it names code that is not installed here
        return MemberState(run, (), "unknown", ids[0] if ids else None, "-", "-", str(error))
    step, status = _current(run, plan)
    if status is None:  # perhaps it ended before this step began
        status = _ended_as(read_json_object(RunPaths(run).summary))
    job = jobs.get(ids[0]) if ids else None
    if ids and job is None and _left_the_queue(run, ids[0], jobs):
        job = Job("CANCELLED", "")
    state, reason = _state_and_reason(plan, run, step, status, bool(ids), job)
    return MemberState(
        folder=run,
        overrides=plan.overrides,
        state=state,
        job=ids[0] if ids else None,
        step=f"{step.name} ({step.index}/{len(plan.steps)})",
        progress=_progress(run, step),
        reason=reason,
    )


def _left_the_queue(run: Path, job: JobId, jobs: Mapping[JobId, Job]) -> bool:
    """Whether an element of an array was canceled before it started.

    SLURM (22.05) keeps no record of such an element, and one of the others of the array.
    """
    array, _, element = str(job).partition("_")
    if not element or not any(str(other).startswith(f"{array}_") for other in jobs):
        return False
    log, noted = RunPaths(run).job_log, RunPaths(run).job_ids
    return not log.exists() or log.stat().st_mtime < noted.stat().st_mtime


def unfinished(folder: Path) -> dict[str, dict[str, str]]:
    """Return state and reason of each member that is not done; nothing where SLURM does not say."""
    if not folder.is_dir() or has_plan(folder) or not any(map(has_plan, folder.iterdir())):
        return {}
    try:
        states = states_of(folder)
    except R1ExpError as error:  # the report does not need SLURM
        say(str(error))
        return {}
    return {
        state.folder.name: {"state": state.state} | ({"reason": state.reason} if state.reason else {})
        for state in states
        if state.state != "done"
    }


def _ended_as(summary: dict[str, Any]) -> Status | None:
    """Return the state of a run that ended while it waited for a step that another run executes."""
    if summary.get("reason") is None or summary.get("state") not in EXIT_CODES:
        return None
    return Status(state=summary["state"], reason=str(summary["reason"]))


def _current(run: Path, plan: RunPlan) -> tuple[PlanStep, Status | None]:
    """Return the first step that is not done, with its status; if all are, the last one that was to run."""
    current, current_status = plan.steps[-1], None
    for step in plan.steps:
        folder = step.paths(run).folder
        status = read_status(folder) if folder.is_dir() else None
        if status is None and not step.runs:
            continue
        current, current_status = step, status
        if status is None or status.state != "done":
            break
    return current, current_status


def _state_and_reason(
    plan: RunPlan, run: Path, step: PlanStep, status: Status | None, is_job: bool, job: Job | None
) -> tuple[str, str]:
    """Return state and reason of a run."""
    reason = "" if status is None else status.reason or ""
    if status is not None and status.state == "done":
        return "done", ""
    if job is not None and job.is_alive:
        if job.state == "PENDING":
            earlier = f"will continue: {reason}" if reason else ""
            return "pending", "; ".join(part for part in (job.reason, earlier) if part and part != "None")
        return "running", ""
    if is_job and (is_canceled(run) or (job is not None and job.is_canceled)):
        note_canceled(run)
        return "canceled", f"ended with scancel; `r1exp sweep retry {shlex.quote(str(run))}` starts it again"
    if not is_job and is_leased(Path(plan.working_directory) / plan.config.paths.store, plan.slot(step, run)):
        return "running", ""
    if status is not None and status.state != "running":
        return status.state, reason
    ended = (
        f"its job ended as {job.state}"
        if job
        else "its job no longer exists"
        if is_job
        else "its process no longer exists"
    )
    return "vanished", ended


def _progress(run: Path, step: PlanStep) -> str:
    if step.batch is None:
        return "-"
    rows = MetricsFile(step.paths(run).metrics).rows()
    done = max((int(row.get("step", 0)) for row in rows), default=0)
    return f"{done}/{step.batch.num_steps}"


def _refused(folder: Path, known: set[str]) -> list[MemberState]:
    """Return the members that were refused before they had a plan."""
    return [
        MemberState(folder / row["member"], tuple(row["overrides"]), "refused", None, "-", "-", row["reason"])
        for row in rows_of(folder)
        if row["member"] not in known and row.get("reason")
    ]


def _sweeps_below(folder: Path) -> str:
    """Return a sentence that names the newest sweeps below a folder."""
    tables = folder.glob(f"**/{SweepPaths(folder).table.name}")
    found = sorted(tables, key=lambda path: path.stat().st_mtime)[-_SHOWN:]
    return f" The newest sweeps: {', '.join(str(path.parent) for path in found)}" if found else ""


def newest_sweeps() -> str:
    """Return a sentence that names the newest sweeps below `runs`."""
    return _sweeps_below(Path("runs"))
