"""Creates or reopens the directory of a run, writes its manifest and plan, and runs or submits it."""

from datetime import datetime
from pathlib import Path
from typing import Any

from r1exp.config.experiment import Experiment
from r1exp.errors import ExitCode, Refused
from r1exp.files import create_text, json_text, read_json, why_not_written
from r1exp.model.adapters import base_of, is_adapter_folder
from r1exp.model.locate import check_hub, locate
from r1exp.model.quantization import refuse_missing_library
from r1exp.paths import RunPaths, StorePaths
from r1exp.plan.other_models import refuse_missing_models
from r1exp.plan.run_plan import PlanStep
from r1exp.plan.slurm_job import job_of
from r1exp.plan.steps import BASE, PlannedStep, run_plan
from r1exp.rewards.check_report import Report
from r1exp.runner.fork import keep_origin
from r1exp.runner.manifest import manifest, why_not_continued
from r1exp.runner.reward_check import refuse_failing_rewards
from r1exp.runner.run import Run
from r1exp.runner.slurm_submit import await_run, submit_run
from r1exp.step.status import read_status


def start_run(
    experiment: Experiment,
    steps: tuple[PlannedStep, ...],
    folder: Path | None = None,
    *,
    is_compared: bool = False,
) -> Run:
    """Create or reopen the run directory and write its manifest and plan.

    Args:
        experiment: The composed experiment.
        steps: Its planned steps.
        folder: The run directory; None: the one that `paths` sets.
        is_compared: Whether it is a member of a sweep.

    Raises:
        Refused: the folder cannot be written or contains another experiment, or rewards fail their check.
    """
    if experiment.run.launcher.index_of_this_node > 0:
        raise Refused(
            f"node {experiment.run.launcher.index_of_this_node} follows the first one, and cannot own a run; type the command "
            "`r1exp ... launcher=torchrun paths.run=DIR` on every node"
        )
    _refuse_unreachable(experiment, steps)
    typed = folder or (None if experiment.run.paths.run is None else Path(experiment.run.paths.run))
    reports = _checked_rewards(experiment, steps, typed)
    chosen = typed or Path(experiment.run.paths.runs)
    try:
        chosen = typed or _new_folder(experiment)
        own = RunPaths(chosen).manifest
        if not own.exists():
            create_text(own, json_text(manifest(experiment, steps, chosen.resolve().name)))
        theirs = _manifest(own)  # perhaps of another process that started now
        if theirs["step_keys"] != [step.key for step in steps]:
            raise Refused(why_not_continued(chosen, theirs, experiment))
        plan = run_plan(experiment, steps, is_compared)
        keep_origin(plan, chosen)
        plan.write(chosen)
    except OSError as error:
        raise Refused(
            f"the run directory {chosen} cannot be written: {why_not_written(error, chosen)}; set paths.runs=DIR"
        ) from error
    return Run(plan, chosen, reports)


def _manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of a run; raise Refused if it is damaged."""
    content = read_json(path)
    if not isinstance(content, dict) or "step_keys" not in content:
        raise Refused(f"{path} is damaged, or another version of r1exp wrote it; remove its folder")
    return content


def _checked_rewards(
    experiment: Experiment, steps: tuple[PlannedStep, ...], folder: Path | None
) -> dict[str, Report]:
    """Check the rewards of the steps that are to run here; those of a job are checked where its steps start.

    Args:
        experiment: The composed experiment.
        steps: Its planned steps.
        folder: The run directory; None: a new one.
    """
    if job_of(experiment.run, steps) is not None:
        return {}
    store = StorePaths(Path(experiment.run.paths.store))

    def is_done(step: PlanStep) -> bool:
        status = None if folder is None else read_status(step.paths(folder).folder)
        return (
            not step.runs
            or (store.steps / step.slot).is_dir()
            or (status is not None and status.state == "done")
        )

    return refuse_failing_rewards(steps, is_done)


def perform(run: Run) -> tuple[ExitCode, dict[str, Any], int | None]:
    """Execute a run on this machine, or submit it to SLURM and, with launcher.wait, wait for its end.

    A run whose steps are all finished needs no job.

    Returns:
        The exit code, the summary (empty for a submitted run), and the id of the job (None without a job).

    Raises:
        StepFailed: SLURM rejects the job.
    """
    job = job_of(run.plan.config, run.plan.steps)
    if job is None or run.is_complete():
        return *run.execute(), None
    number = submit_run(run.plan, run.folder)
    if not job.wait:
        return ExitCode.DONE, {}, number
    return *await_run(run.plan, run.folder), number


def _refuse_unreachable(experiment: Experiment, steps: tuple[PlannedStep, ...]) -> None:
    """Raise Refused for what this machine or the network lacks, before anything is written."""
    for settings in (experiment.run, *(step.config for step in steps)):
        for tracker in settings.tracking.values():
            tracker.refuse_unready()
    for step in (step for step in steps if step.runs):
        step.config.launcher.refuse_unready()
        if step.config.generates:
            step.config.rollout.refuse_unready(step.config.launcher)
        refuse_missing_models(step.config)
        refuse_missing_library(step.config.model)
        assert step.config.stage is not None
        step.config.stage.refuse_unready(step.config)
        if step.composed.data_from is None:
            for dataset in step.config.stage.data_sets(step.config):
                dataset.check_source()
        place = locate(step.config.model) if step.model_from == BASE else None
        revision = step.config.model.revision
        if isinstance(place, Path) and is_adapter_folder(place):
            place, revision = base_of(place)
        if isinstance(place, str):
            check_hub(place, revision)


def _new_folder(experiment: Experiment) -> Path:
    """Make a folder for a run, which no other process has made, and return it."""
    now = datetime.now()
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in experiment.name)
    base = Path(experiment.run.paths.runs) / f"{now:%Y-%m-%d}"
    folder = base / f"{now:%H-%M-%S}-{safe}"
    number = 1
    base.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = base / f"{now:%H-%M-%S}-{safe}-{number}"
        else:
            return folder
