"""Submits a run as a SLURM job and, if requested, waits for its end.

<run>/job.sbatch  the script that SLURM reads    <run>/job.json   the ids of its jobs, newest last
<run>/slurm.log   output of the job
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt, ValidationError

from r1exp.errors import ExitCode, Refused
from r1exp.files import read_json, write_text
from r1exp.launcher import slurm_client
from r1exp.launcher.slurm import Slurm, job_text
from r1exp.launcher.slurm_client import Job, JobId
from r1exp.paths import RunPaths
from r1exp.plan.run_plan import RunPlan
from r1exp.plan.slurm_job import job_of
from r1exp.report.summary import summarize
from r1exp.settings import Settings
from r1exp.step.status import EXIT_CODES, State
from r1exp.terminal import say

_POLL = 3.0  # seconds between requests to the controller
_SUMMARY_PATIENCE = 10.0  # seconds that a shared file system may take to show the summary


_Id = PositiveInt | Annotated[str, Field(pattern=r"^\d+_\d+$")]  # of a job, or of an element of an array


class JobNote(Settings):
    """The jobs that a run was submitted as."""

    ids: tuple[_Id, ...]  # newest last; a requeued job keeps its id
    canceled: tuple[_Id, ...] = ()  # those that a user ended with scancel, as far as r1exp noticed


def job_ids(run: Path) -> tuple[JobId, ...]:
    """Return the ids of a run's jobs, newest last; none for a run on this machine.

    Raises:
        Refused: the file is damaged.
    """
    return _note(run).ids


def is_canceled(run: Path) -> bool:
    """Whether r1exp noticed that a user canceled the newest job of a run."""
    note = _note(run)
    return bool(note.ids) and note.ids[-1] in note.canceled


def note_canceled(run: Path) -> None:
    """Remember that the newest job of a run was canceled; SLURM forgets it some minutes after its end."""
    note = _note(run)
    if note.ids and note.ids[-1] not in note.canceled:
        _write(run, note.model_copy(update={"canceled": (*note.canceled, note.ids[-1])}))


def _write(run: Path, note: JobNote) -> None:
    write_text(RunPaths(run).job_ids, note.model_dump_json() + "\n")


def _note(run: Path) -> JobNote:
    path = RunPaths(run).job_ids
    if not path.exists():
        return JobNote(ids=())
    try:
        return JobNote.model_validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        raise Refused(
            f"{path} is damaged; if `squeue --name` shows no job of this run, remove the file"
        ) from error


def submit_run(plan: RunPlan, run: Path) -> int:
    """Submit a run as a job and return its id.

    Raises:
        Refused: the newest job of this run has not ended.
        StepFailed: SLURM rejects the job.
    """
    refuse_living(run, slurm_client.jobs(job_ids(run)[-1:]))
    settings = job_of(plan.config, plan.steps)
    assert settings is not None
    paths = RunPaths(run)
    directory = Path(plan.working_directory)
    write_text(paths.job_script, job_text(settings, plan.name, directory, run.resolve()))
    paths.summary.unlink(missing_ok=True)  # of an earlier job
    number = slurm_client.submit(paths.job_script)
    note_job(run, number)
    return number


def refuse_living(run: Path, jobs: Mapping[JobId, Job]) -> None:
    """Raise Refused if the newest job of a run has not ended.

    Args:
        run: The run directory.
        jobs: What SLURM says about that job.
    """
    newest = job_ids(run)[-1:]
    known = jobs.get(newest[0]) if newest else None
    if known is not None and known.is_alive:
        raise Refused(f"{run} is job {newest[0]}, which is {known.state}; `scancel {newest[0]}` ends it")


def note_job(run: Path, job: JobId) -> None:
    """Write down the newest job of a run."""
    note = _note(run)
    _write(run, note.model_copy(update={"ids": (*note.ids, job)}))


def refuse_job(settings: Slurm, name: str) -> None:
    """Check with SLURM that it would accept such a job, before anything is written.

    Raises:
        Refused: SLURM would reject it or never start it, or is not installed on this machine.
    """
    slurm_client.refuse_without_slurm()
    slurm_client.check_job(job_text(settings, name, Path.cwd(), Path.cwd()))
    _refuse_longer_than_partition(settings)


def _refuse_longer_than_partition(settings: Slurm) -> None:
    """Refuse a time above the limit of the partition: sbatch accepts such a job, and leaves it pending for ever."""
    seconds = slurm_client.seconds_of(str(settings.time))
    limits = slurm_client.time_limits(settings.partition)
    known = [limit for limit in limits.values() if limit is not None]
    if not limits or len(known) < len(limits) or (seconds is not None and seconds <= max(known)):
        return
    found = ", ".join(f"{name} {_clock(limit)}" for name, limit in limits.items() if limit is not None)
    told = f"launcher.time={settings.time} is above the time limit of the partition ({found})"
    if settings.qos is None:
        raise Refused(f"{told}, so that the job would never start; lower launcher.time, or see `sinfo -s`")
    say(f"{told}; the job starts only if launcher.qos={settings.qos} allows it")


def _clock(seconds: float) -> str:
    """Return seconds as SLURM writes a time limit."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{f'{days}-' if days else ''}{hours:02d}:{minutes:02d}:{rest:02d}"


def await_run(plan: RunPlan, run: Path) -> tuple[ExitCode, dict[str, Any]]:
    """Wait until the newest job of a run has ended, including requeues; return exit code and summary."""
    number = job_ids(run)[-1]
    shown = ""
    while True:
        job = slurm_client.jobs([number]).get(number)
        if job is None or not job.is_alive:
            break
        now = f"{job.state.lower()}{'' if job.reason == 'None' else f' ({job.reason})'}"
        if now != shown:
            shown = now
            say(f"job {number}: {now}")
        time.sleep(_POLL)
    end = time.monotonic() + _SUMMARY_PATIENCE
    path = RunPaths(run).summary
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.2)
    summary = read_json(path) if path.exists() else summarize(plan, run)
    if job is not None and job.is_canceled:
        note_canceled(run)
        return ExitCode.INTERRUPTED, {**summary, "state": "canceled", "reason": f"job {number} was canceled"}
    state: State = summary["state"] if summary["state"] in EXIT_CODES else "failed"
    return EXIT_CODES[state], summary
