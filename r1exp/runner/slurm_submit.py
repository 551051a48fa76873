"""Submits a run as a SLURM job and, if requested, waits for its end.

<run>/job.sbatch  the script that SLURM reads    <run>/job.json   the ids of its jobs, newest last
<run>/slurm.log   output of the job
"""

import time
from pathlib import Path
from typing import Any

from pydantic import PositiveInt, ValidationError

from r1exp.errors import ExitCode, Refused
from r1exp.files import read_json, write_text
from r1exp.launcher import slurm_client
from r1exp.launcher.slurm import Slurm, job_text
from r1exp.paths import RunPaths
from r1exp.plan.run_plan import RunPlan
from r1exp.plan.slurm_job import job_of
from r1exp.report.summary import summarize
from r1exp.settings import Settings
from r1exp.step.status import EXIT_CODES, State
from r1exp.terminal import say

_POLL = 3.0  # seconds between requests to the controller
_SUMMARY_PATIENCE = 10.0  # seconds that a shared file system may take to show the summary


class JobNote(Settings):
    """The jobs that a run was submitted as."""

    ids: tuple[PositiveInt, ...]  # newest last; a requeued job keeps its id


def job_ids(run: Path) -> tuple[int, ...]:
    """Return the ids of a run's jobs, newest last; none for a run on this machine.

    Raises:
        Refused: the file is damaged.
    """
    path = RunPaths(run).job_ids
    if not path.exists():
        return ()
    try:
        return JobNote.model_validate_json(path.read_bytes(), strict=True).ids
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
    earlier = job_ids(run)
    if earlier:
        known = slurm_client.jobs(earlier[-1:]).get(earlier[-1])
        if known is not None and known.is_alive:
            raise Refused(
                f"{run} is job {earlier[-1]}, which is {known.state}; `scancel {earlier[-1]}` ends it"
            )
    settings = job_of(plan.config, plan.steps)
    assert settings is not None
    paths = RunPaths(run)
    directory = Path(plan.working_directory)
    write_text(paths.job_script, job_text(settings, plan.name, directory, run.resolve()))
    paths.summary.unlink(missing_ok=True)  # of an earlier job
    number = slurm_client.submit(paths.job_script)
    write_text(paths.job_ids, JobNote(ids=(*earlier, number)).model_dump_json() + "\n")
    return number


def refuse_job(settings: Slurm, name: str) -> None:
    """Check with SLURM that it would accept such a job, before anything is written.

    Raises:
        Refused: SLURM would reject it, or is not installed on this machine.
    """
    slurm_client.refuse_without_slurm()
    slurm_client.check_job(job_text(settings, name, Path.cwd(), Path.cwd()))


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
    state: State = summary["state"] if summary["state"] in EXIT_CODES else "failed"
    return EXIT_CODES[state], summary
