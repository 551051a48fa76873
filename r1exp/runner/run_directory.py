"""The directory of a run: made, or found again, with its manifest and its frozen plan. Nothing runs yet."""

from datetime import datetime
from pathlib import Path
from typing import Any

from r1exp.config.experiment import Experiment
from r1exp.errors import ExitCode, Refused
from r1exp.files import read_json, write_json
from r1exp.launcher.extensions import refuse_unready
from r1exp.model.locate import check_hub, locate
from r1exp.plan.other_models import refuse_missing_models
from r1exp.plan.slurm_job import job_of
from r1exp.plan.steps import BASE, PlannedStep, frozen_plan
from r1exp.rollout.settings import Endpoint, api_key
from r1exp.runner.manifest import manifest
from r1exp.runner.run import Run
from r1exp.runner.slurm_submit import await_run, submit_run
from r1exp.serving.step_server import refuse_without_vllm
from r1exp.tracking.settings import WandbTracking, resolved_mode


def start_run(experiment: Experiment, steps: tuple[PlannedStep, ...], folder: Path | None = None) -> Run:
    """Make, or reopen, the run directory and write its manifest.

    Args:
        experiment: What is run.
        steps: Its plan.
        folder: The run directory; None: as `paths` says.

    Raises:
        Refused: a folder that cannot be written, or one that holds another experiment.
    """
    _refuse_unreachable(experiment, steps)
    chosen = folder or _run_folder(experiment)
    identity = [step.key for step in steps]
    old = chosen / "manifest.json"
    try:
        if old.exists():
            if read_json(old)["step_keys"] != identity:
                raise Refused(
                    f"{chosen} holds another experiment than the one typed; "
                    "give another paths.run, or type what its manifest.json says"
                )
        else:
            chosen.mkdir(parents=True, exist_ok=True)
            write_json(old, manifest(experiment, steps, chosen.resolve().name))
        plan = frozen_plan(experiment, steps)
        plan.write(chosen)
    except OSError as error:
        raise Refused(
            f"the run directory {chosen} cannot be written ({error.strerror}); set paths.runs=..."
        ) from error
    return Run(plan, chosen)


def perform(run: Run) -> tuple[ExitCode, dict[str, Any], int | None]:
    """Carry a run out here, or hand it to SLURM and, if so told, wait.

    Returns:
        The exit code, the summary (empty for a run that SLURM has yet to start), and the job's id.

    Raises:
        StepFailed: SLURM does not take the job.
    """
    job = job_of(run.plan.top, run.plan.steps)
    if job is None:
        return *run.carry_out(), None
    number = submit_run(run.plan, run.folder)
    if not job.wait:
        return ExitCode.DONE, {}, number
    return *await_run(run.plan, run.folder), number


def _refuse_unreachable(experiment: Experiment, steps: tuple[PlannedStep, ...]) -> None:
    """Refuse what only this machine or the network can tell, before anything is written."""
    if isinstance(experiment.top.tracking, WandbTracking):
        resolved_mode(experiment.top.tracking)
    for step in steps:
        refuse_unready(step.config.launcher)
        if isinstance(step.config.rollout, Endpoint):
            api_key(step.config.rollout)
        refuse_without_vllm(step.config)
        refuse_missing_models(step.config)
        place = locate(step.config.model) if step.model_from == BASE else None
        if isinstance(place, str):
            check_hub(place, step.config.model.revision)


def _run_folder(experiment: Experiment) -> Path:
    if experiment.paths.run is not None:
        return Path(experiment.paths.run)
    now = datetime.now()
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in experiment.name)
    base = Path(experiment.paths.runs) / f"{now:%Y-%m-%d}"
    folder = base / f"{now:%H-%M-%S}-{safe}"
    number = 1
    while folder.exists():
        number += 1
        folder = base / f"{now:%H-%M-%S}-{safe}-{number}"
    return folder
