"""Collects what a plan says about its steps besides their settings: devices, memory, time, and what is odd."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1exp.config.experiment import Experiment
from r1exp.model.locate import locate
from r1exp.model.remote_code import about_code
from r1exp.plan.devices import Hardware, hardware_here
from r1exp.plan.durations import Duration, Durations
from r1exp.plan.memory_report import MemoryReport, Need
from r1exp.plan.oddities import oddities
from r1exp.plan.reuse import Reason, reasons
from r1exp.plan.steps import BASE, PlannedStep


@dataclass(frozen=True)
class Facts:
    """What is known about the steps of a plan, in their order."""

    hardware: Hardware
    needs: tuple[Need | None, ...]
    durations: tuple[Duration | None, ...]
    odd: tuple[str, ...]
    reasons: tuple[Reason, ...] = ()  # why steps run although one of their name is finished


def facts_of(
    experiment: Experiment, steps: Sequence[PlannedStep], given: Hardware | None, *, is_compared: bool = False
) -> Facts:
    """Collect what is known about memory and time.

    Args:
        experiment: The composed experiment.
        steps: Its planned steps.
        given: The devices that were typed; None: those of this machine, or of a job that says nothing about them.
        is_compared: Whether it is a member of a sweep.
    """
    hardware = given or _hardware(steps)
    report = MemoryReport(hardware.memory)
    needs = tuple(report.need(step) for step in steps)
    store = Durations(
        Path(experiment.run.paths.store),
        is_elsewhere=given is not None and given.is_given,
        is_compared=is_compared,
    )
    return Facts(
        hardware,
        needs,
        tuple(store.of(step) for step in steps),
        (
            *oddities(steps, hardware, needs),
            *dict.fromkeys(_of_code(steps)),
            *_of_data(steps),
            *_of_validation(steps),
            *(text for step in steps for text in store.notes(step)),
        ),
        tuple(reasons(steps, store)),
    )


def _of_code(steps: Sequence[PlannedStep]) -> Iterator[str]:
    """Yield whose code runs because the model is trusted."""
    for step in steps:
        model = step.config.model
        place = locate(model) if model.trust_remote_code and step.model_from == BASE else None
        if place is not None:
            yield about_code(model, place, step.composed.config.model.revision)


def _of_data(steps: Sequence[PlannedStep]) -> Iterator[str]:
    """Yield what a user should know about the data: rows left out, data on the hub."""
    for step in steps:
        if step.config.stage is not None and step.composed.data_from is None:
            yield from (f"{step.name}: {note}" for note in step.config.stage.data_notes(step.config))


def _of_validation(steps: Sequence[PlannedStep]) -> Iterator[str]:
    """Yield which steps that train a policy are not evaluated meanwhile, although evaluations were asked for."""
    for step in steps:
        stage = step.config.stage
        makes_policy = stage is not None and stage.trains and stage.makes == "model"
        if makes_policy and step.config.evaluation.every and not step.config.validates:
            yield f"{step.name}: not evaluated during training, as its data have no answers (evaluation.every)"


def _hardware(steps: Sequence[PlannedStep]) -> Hardware:
    device = next((step.device for step in steps if step.batch is not None), steps[0].device)
    if any(step.config.launcher.job is not None for step in steps):
        return Hardware("nodes of a SLURM job", device, None)
    return hardware_here(device)
