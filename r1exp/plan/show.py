"""Renders a plan as text: what will run, where each value comes from, and the exact commands."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from r1exp.config.experiment import Experiment
from r1exp.config.origin import Origins
from r1exp.config.targets import flat
from r1exp.launcher.slurm import job_text
from r1exp.paths import RunPaths
from r1exp.plan.batch import Batch, RlBatch
from r1exp.plan.memory_report import MemoryReport
from r1exp.plan.slurm_job import job_of
from r1exp.plan.steps import BASE, PlannedStep, targets_of
from r1exp.rewards.advice import constant_in_group_warnings
from r1exp.stage.config import StepConfig


def plan_text(experiment: Experiment, steps: tuple[PlannedStep, ...], run_folder: str = "RUN") -> str:
    """Return the whole plan. Needs a `compose.session`.

    Args:
        experiment: The composed experiment.
        steps: Its planned steps.
        run_folder: Placeholder for the run directory in the launch commands, because it does not exist yet.
    """
    origins = Origins(experiment.composition, experiment.overrides)
    lines = [f"Run {experiment.name!r}, focus {experiment.focus}, {len(steps)} steps", ""]
    lines += _configuration(experiment, origins)
    lines += ["", "Overrides and the steps they apply to", *_targets(experiment, steps)]
    memory = MemoryReport()
    for step in steps:
        lines += ["", *_step(step, experiment.run, origins, memory, run_folder)]
    job = job_of(experiment.run, steps)
    if job is not None:
        text = job_text(job, experiment.name, Path.cwd(), Path(run_folder))
        lines += ["", "The job, RUN/job.sbatch", *(f"  {line}" for line in text.splitlines())]
    return "\n".join(lines) + "\n"


def _configuration(experiment: Experiment, origins: Origins) -> Iterator[str]:
    yield "Configuration (value, origin)"
    values = flat(experiment.run.model_dump(mode="json"))
    rows = [(key, _short(value), origins.of(key)) for key, value in values.items()]
    width = max(len(f"{key}: {value}") for key, value, _ in rows)
    for key, value, origin in rows:
        yield f"  {f'{key}: {value}':<{min(width, 70)}}  # {origin}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _targets(experiment: Experiment, steps: tuple[PlannedStep, ...]) -> Iterator[str]:
    if not experiment.arguments:
        yield "  none typed"
    typed = {override.text: override for step in steps for override in step.composed.typed}
    for text in experiment.arguments:
        names = targets_of(typed[text], steps) if text in typed else []
        yield f"  {text}: {', '.join(names) if names else 'the run as a whole'}"


def _step(
    step: PlannedStep, run: StepConfig, origins: Origins, memory: MemoryReport, run_folder: str
) -> Iterator[str]:
    yield f"Step {step.index} {step.name}: stage={step.kind}, model from {step.model_from}, key {step.key}"
    yield from _differences(step, run, origins)
    for warning in constant_in_group_warnings(step.config.rewards or {}):
        yield f"  note: {warning}"
    if step.config.stage is not None and step.composed.data_from is None:
        yield from (f"  note: {note}" for note in step.config.stage.data_notes(step.config))
    if step.batch is not None:
        yield from (f"  {line}" for line in _batch(step.batch))
        yield f"  trainer arguments: {json.dumps(step.trainer_args, ensure_ascii=False)}"
    else:
        assert step.config.stage is not None
        yield f"  {step.config.stage.describe(step.config, step.num_problems)}"
    yield from (f"  {line}" for line in memory.lines(step))
    yield from _commands(step, run_folder)


def _commands(step: PlannedStep, run_folder: str) -> Iterator[str]:
    paths = RunPaths(Path(run_folder)).step(step.index, step.name)
    launch = step.config.launcher.launch(paths.folder)
    served = step.served()
    if served is not None:
        launch = served.beside(launch)
        own = step.config.model.path or "MODEL"
        model = own if step.model_from == BASE else f"ARTIFACT_OF_{step.model_from}"
        yield f"  server: {served.launch(model).text()}"
    yield f"  {launch.text()}"
    for name, text in launch.files.items():
        yield f"  {name}: {json.dumps(yaml.safe_load(text), ensure_ascii=False)}"


def _differences(step: PlannedStep, run: StepConfig, origins: Origins) -> Iterator[str]:
    """Yield the values of a training step that differ from those of the run, with their origin."""
    if step.batch is None:
        return
    common = flat(run.model_dump(mode="json"))
    own = flat(step.config.model_dump(mode="json"))
    changed = {
        key: value
        for key, value in own.items()
        if (value is not None and key in common and common[key] != value) or key not in common
    }
    if changed:
        found = Origins(step.composed.composition, step.composed.overrides, origins)
        for key, value in changed.items():
            yield f"  {key}: {_short(value)}  # {found.of(key)}"


def _batch(batch: Batch) -> Iterator[str]:
    unit = "completions" if isinstance(batch, RlBatch) else "rows"
    yield (
        f"{batch.num_steps} optimizer steps of {batch.rows_per_step} {unit} = {batch.world_size} ranks "
        f"x {batch.rows_per_device} per forward pass x {batch.accumulation} accumulated"
    )
    if isinstance(batch, RlBatch):
        yield (
            f"{batch.prompts_per_step} prompts x {batch.num_generations} completions per optimizer step; "
            f"{batch.completions_per_rank} completions sampled per rank at once; "
            f"groups {'split across ranks (gathered before scoring)' if batch.is_split else 'whole on their rank'}"
        )
        policy = (
            "on-policy"
            if batch.is_on_policy
            else f"off-policy: {batch.updates_per_batch} optimizer steps per generation batch"
        )
        yield f"{policy}"
    if batch.num_rows is None:
        yield "problems: counted when the data are on this machine"
    else:
        epochs = batch.num_steps / batch.steps_per_epoch if batch.steps_per_epoch else 0.0
        yield (
            f"{batch.num_rows} problems, {batch.steps_per_epoch} optimizer steps per epoch, "
            f"{batch.rows_dropped} problems dropped per epoch, {epochs:.2f} epochs"
        )
