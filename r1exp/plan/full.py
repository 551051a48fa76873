"""Renders a plan in full: every value with its origin, every step, the exact commands and files. Lines have at most 120
characters, except for what is one word, such as a path.
"""

import json
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from r1exp.config.experiment import Experiment
from r1exp.config.origin import Origins
from r1exp.config.overrides import flat
from r1exp.launcher.base import Launch
from r1exp.launcher.slurm import job_text
from r1exp.paths import RunPaths
from r1exp.plan.batch import Batch, RlBatch
from r1exp.plan.devices import Hardware
from r1exp.plan.facts import Facts, facts_of
from r1exp.plan.fit import fit_lines
from r1exp.plan.memory_report import MemoryReport
from r1exp.plan.slurm_job import job_of
from r1exp.plan.speed import speed_lines
from r1exp.plan.steps import BASE, PlannedStep, targets_of
from r1exp.stage.config import StepConfig

_WIDTH = 120  # characters
_VALUE = 60  # characters of a value
_RUN = "RUN"  # stands for the run directory, which does not exist yet


def full_text(
    experiment: Experiment,
    steps: Sequence[PlannedStep],
    given: Hardware | None = None,
    run_folder: str = _RUN,
) -> str:
    """Return the whole plan. Needs a `compose.session`.

    Args:
        experiment: The composed experiment.
        steps: Its planned steps.
        given: The devices that were typed; None: this machine's.
        run_folder: Placeholder for the run directory in the launch commands, because it does not exist yet.
    """
    origins = Origins(experiment.composition, experiment.overrides)
    lines = [f"Run {experiment.name!r}, focus {experiment.focus}, {len(steps)} steps", ""]
    lines += _configuration(experiment, origins)
    lines += ["", "Overrides and the steps they apply to", *_targets(experiment, steps)]
    facts = facts_of(experiment, steps, given)
    lines += ["", "Odd", *(line for text in facts.odd or ("nothing",) for line in _wrapped(text))]
    lines += _about_reuse(steps, facts)
    hardware = given or facts.hardware
    memory = MemoryReport(hardware.memory)
    for step in steps:
        own = _step(step, experiment.run, origins, memory)
        texts = [*fit_lines(step, hardware), *speed_lines(step, hardware)]
        fits = [line for text in texts for line in _wrapped(text)]
        lines += ["", *own, *fits, *_commands(step, run_folder)]
    return "\n".join([*lines, *_job(experiment, steps, run_folder)]) + "\n"


def _about_reuse(steps: Sequence[PlannedStep], facts: Facts) -> Iterator[str]:
    """Yield which steps are reused, which run and why, and which are left out; nothing where every step is new."""
    why = {reason.step: reason.text for reason in facts.reasons}
    reused = {
        step.name: found.source
        for step, found in zip(steps, facts.durations, strict=True)
        if found is not None and found.is_reused
    }
    if not why and not reused and all(step.runs for step in steps):
        return
    yield from ("", "Steps")
    for step in steps:
        if step.name in reused:
            text = f"reused from {reused[step.name]}"
        elif not step.runs:
            text = "left out"
        else:
            text = f"runs: {why[step.name]}" if step.name in why else "runs"
        yield from _wrapped(f"{step.name}: {text}")


def launch_text(experiment: Experiment, steps: Sequence[PlannedStep], run_folder: str = _RUN) -> str:
    """Return the commands of all steps, the files they read, and the script of a SLURM job."""
    lines = []
    for step in steps:
        lines += [f"Step {step.index} {step.name}", *_commands(step, run_folder), ""]
    return "\n".join([*lines[:-1], *_job(experiment, steps, run_folder)]) + "\n"


def _job(experiment: Experiment, steps: Sequence[PlannedStep], run_folder: str) -> list[str]:
    job = job_of(experiment.run, steps)
    if job is None:
        return []
    text = job_text(job, experiment.name, Path.cwd(), Path(run_folder))
    return ["", "The job, RUN/job.sbatch", *(f"  {line}".rstrip() for line in text.splitlines())]


def _configuration(experiment: Experiment, origins: Origins) -> Iterator[str]:
    yield "Configuration (value, origin)"
    values = flat(experiment.run.model_dump(mode="json"))
    rows = [(key, _short(value), origins.of(key)) for key, value in values.items()]
    for key, value, origin in rows:
        yield _with_origin(f"  {key}: {value}", origin)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _VALUE else f"{text[: _VALUE - 3]}..."


def _with_origin(text: str, origin: str) -> str:
    room = max(40, _WIDTH - len(origin) - 4)
    shown = text if len(text) <= room else f"{text[: room - 3]}..."
    return f"{shown:<{min(72, room)}}  # {origin}"


def _targets(experiment: Experiment, steps: Sequence[PlannedStep]) -> Iterator[str]:
    if not experiment.arguments:
        yield "  none typed"
    typed = {override.text: override for step in steps for override in step.composed.typed}
    for text in experiment.arguments:
        names = targets_of(typed[text], steps) if text in typed else []
        yield f"  {text}: {', '.join(names) if names else 'the run as a whole'}"


def _step(step: PlannedStep, run: StepConfig, origins: Origins, memory: MemoryReport) -> Iterator[str]:
    yield f"Step {step.index} {step.name}: stage={step.kind}, model from {step.model_from}, key {step.slot}"
    yield from _differences(step, run, origins)
    if step.batch is not None:
        yield from (f"  {line}" for line in _batch(step.batch))
        yield from _wrapped(f"trainer arguments: {json.dumps(step.trainer_args, ensure_ascii=False)}")
    else:
        assert step.config.stage is not None
        yield f"  {step.config.stage.describe(step.config, step.num_problems)}"
        for line in step.config.stage.details(step.config):
            yield from _wrapped(line)
    if step.batch is not None or step.config.generates:  # another step loads no model
        for line in memory.lines(step):
            yield from _wrapped(line)


def _wrapped(text: str) -> list[str]:
    """Return a text as indented lines; continued lines are indented further."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _commands(step: PlannedStep, run_folder: str) -> Iterator[str]:
    paths = RunPaths(Path(run_folder)).step(step.index, step.name)
    launch = step.config.launcher.launch(paths.folder)
    served = step.served()
    if served is not None:
        launch = served.beside(launch)
        own = step.config.model.path or "MODEL"
        model = own if step.model_from == BASE else f"ARTIFACT_OF_{step.model_from}"
        yield "  server:"
        yield from _command(served.launch(model).text())
    yield from _command(launch.text())
    yield from _files(launch)


def _command(text: str) -> list[str]:
    """Return a command on several lines, each but the last with a backslash at its end, so that it can be copied."""
    lines: list[str] = []
    for word in shlex.split(text):
        quoted = _quoted(word)
        if lines and len(f"{lines[-1]} {quoted} \\") <= _WIDTH:
            lines[-1] += f" {quoted}"
        else:
            lines.append(f"{'      ' if lines else '  '}{quoted}")
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def _quoted(word: str) -> str:
    """Return a word quoted for a shell; an assignment stays one."""
    name, equals, value = word.partition("=")
    return f"{name}={shlex.quote(value)}" if equals and name.isidentifier() else shlex.quote(word)


def _files(launch: Launch) -> Iterator[str]:
    """Yield the files that a command reads, without their comments: JSON as JSON, YAML as YAML."""
    for name, text in launch.files.items():
        yield f"  {name}:"
        content = yaml.safe_load(text)  # JSON is YAML
        shown = (
            json.dumps(content, indent=2, ensure_ascii=False)
            if name.endswith(".json")
            else yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        )
        yield from (f"    {line}" for line in shown.rstrip().splitlines())


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
            yield _with_origin(f"  {key}: {_short(value)}", found.of(key))


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
