"""A plan as text: what will run, why each value is what it is, and the exact commands."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r1exp.config.assets import LAUNCHERS
from r1exp.config.experiment import Experiment
from r1exp.config.origin import origin_of, origins
from r1exp.config.targets import flat
from r1exp.launcher.command import launch_of
from r1exp.launcher.slurm import job_text
from r1exp.plan.batch import Batch, RlBatch
from r1exp.plan.memory_report import memory_lines
from r1exp.plan.slurm_job import job_of
from r1exp.plan.steps import BASE, PlannedStep
from r1exp.rewards.advice import constant_in_group_warnings
from r1exp.serving.step_server import beside_server, planned_server
from r1exp.stage.config import StepConfig
from r1exp.stage.kinds import Preferences, Sample
from r1exp.stage.step import folder_name


def plan_text(experiment: Experiment, steps: tuple[PlannedStep, ...], run_folder: str = "RUN") -> str:
    """Return the whole plan.

    Args:
        experiment: What was composed.
        steps: Its planned steps.
        run_folder: Stands in the launch commands for the run directory, which does not exist yet.
    """
    lines = [f"Run {experiment.name!r}, focus {experiment.focus}, {len(steps)} steps", ""]
    lines += _configuration(experiment)
    lines += ["", "Typed words and the steps they reach", *_reach(experiment, steps)]
    for step in steps:
        lines += ["", *_step(step, experiment.top, run_folder)]
    job = job_of(experiment.top, steps)
    if job is not None:
        text = job_text(job, experiment.name, Path.cwd(), Path(run_folder), LAUNCHERS)
        lines += ["", "The job, RUN/job.sbatch", *(f"  {line}" for line in text.splitlines())]
    return "\n".join(lines) + "\n"


def _configuration(experiment: Experiment) -> Iterator[str]:
    yield "Configuration (value, origin)"
    found = origins(experiment.composition, experiment.composed_from)
    values = flat(experiment.top.model_dump(mode="json"))
    rows = [(key, _short(value), origin_of(key, found)) for key, value in values.items()]
    width = max(len(f"{key}: {value}") for key, value, _ in rows)
    for key, value, origin in rows:
        yield f"  {f'{key}: {value}':<{min(width, 70)}}  # {origin}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _reach(experiment: Experiment, steps: tuple[PlannedStep, ...]) -> Iterator[str]:
    if not experiment.words:
        yield "  none typed"
    for word in experiment.words:
        names = [step.name for step in steps if word in step.reached_by]
        yield f"  {word}: {', '.join(names) if names else 'the run as a whole'}"


def _step(step: PlannedStep, top: StepConfig, run_folder: str) -> Iterator[str]:
    yield f"Step {step.index} {step.name}: stage={step.kind}, model from {step.model_from}, key {step.key}"
    yield from _differences(step, top)
    for warning in constant_in_group_warnings(step.config.rewards or {}):
        yield f"  note: {warning}"
    if step.batch is not None:
        yield from (f"  {line}" for line in _batch(step.batch))
    elif isinstance(step.config.stage, Sample):
        asked = [step.config.stage.num_problems, step.config.debug.num_problems, step.num_problems]
        least = min((number for number in asked if number is not None), default=None)
        yield f"  {'all' if least is None else least} training problems, {step.config.stage.samples} answers each"
    elif isinstance(step.config.stage, Preferences):
        yield f"  pairs from the answers in {step.config.stage.samples}"
    else:
        asked = [step.config.evaluation.num_problems, step.config.debug.num_problems, step.num_problems]
        known = [number for number in asked if number is not None]
        number = str(min(known)) if known else "all (counted after the download)"
        kinds = f"{step.config.evaluation.samples} sampled" + (
            " and 1 greedy" if step.config.evaluation.greedy else ""
        )
        yield f"  {number} held-out problems, {kinds} completion(s) each"
    yield from (f"  {line}" for line in memory_lines(step))
    folder = Path(run_folder) / "steps" / folder_name(step.index, step.name)
    launch = beside_server(launch_of(step.config.launcher, folder, LAUNCHERS), step.config, step.device)
    model = step.config.model.path or "MODEL" if step.model_from == BASE else f"ARTIFACT_OF_{step.model_from}"
    server = planned_server(step.config, model=model, key=step.key, device=step.device)
    if server is not None:
        yield f"  server: {server.text()}"
    yield f"  {launch.text()}"
    for name, text in launch.files.items():
        body = [line for line in text.splitlines() if not line.startswith("#")]
        yield f"  {name}: {{{', '.join(body)}}}"


def _differences(step: PlannedStep, top: StepConfig) -> Iterator[str]:
    """Yield the values of a training step that differ from the top of the composition, with their origin."""
    if step.batch is None:
        return
    common = flat(top.model_dump(mode="json"))
    own = flat(step.config.model_dump(mode="json"))
    found = origins(step.rung.composition, step.rung.words)
    for key, value in own.items():
        if (value is not None and key in common and common[key] != value) or key not in common:
            yield f"  {key}: {_short(value)}  # {origin_of(key, found)}"


def _batch(batch: Batch) -> Iterator[str]:
    unit = "completions" if isinstance(batch, RlBatch) else "rows"
    yield (
        f"{batch.num_steps} optimizer steps of {batch.rows_per_step} {unit} = {batch.world_size} ranks "
        f"x {batch.rows_per_device} a forward pass x {batch.accumulation} accumulated"
    )
    if isinstance(batch, RlBatch):
        yield (
            f"{batch.prompts_per_step} prompts x {batch.num_generations} completions a step; "
            f"{batch.completions_per_generation // batch.world_size} completions sampled per rank at once; "
            f"groups {'split across ranks (gathered before scoring)' if batch.is_split else 'whole on their rank'}"
        )
        policy = (
            "on-policy" if batch.is_on_policy else f"off-policy: {batch.updates_per_batch} updates per batch"
        )
        yield f"{policy}"
    if batch.num_rows is None:
        yield "problems: counted when they are there"
    else:
        epochs = batch.num_steps / batch.steps_per_epoch if batch.steps_per_epoch else 0.0
        yield (
            f"{batch.num_rows} problems, {batch.steps_per_epoch} steps per epoch, "
            f"{batch.rows_dropped} problems dropped per epoch, {epochs:.2f} epochs"
        )
