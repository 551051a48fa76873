"""Expands a command line into its members: one run, or the runs of a sweep, each composed, validated and planned."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from r1exp.config.compose import Composition, compose, expanded, first_value, parsed
from r1exp.config.experiment import Experiment, experiment_from
from r1exp.config.launcher_plugins import LAUNCHER, refuse_launcher_plugins
from r1exp.config.overrides import Override
from r1exp.config.sweep import DesignName
from r1exp.errors import Refused
from r1exp.plan.design import Design, combinations_of, designed
from r1exp.plan.reuse import within
from r1exp.plan.step_range import WHOLE, StepRange
from r1exp.plan.steps import PlannedStep, planned_steps
from r1exp.terminal import say

BASIC = "basic"  # Hydra's sweeper that runs every combination

_SAMPLE = 3  # members after which the time of all is known
_SILENCE = 5.0  # seconds that nothing need be said


@dataclass(frozen=True)
class Member:
    """One run of a sweep, composed and planned; or the only run of a command line."""

    experiment: Experiment
    steps: tuple[PlannedStep, ...]

    @property
    def arguments(self) -> tuple[str, ...]:
        """Its overrides, as they could be typed."""
        return self.experiment.arguments


@dataclass(frozen=True)
class Command:
    """A command line, composed once without the overrides that list several values."""

    overrides: list[Override]
    composition: Composition
    is_sweep: bool
    span: StepRange = WHOLE  # the steps that may run

    @property
    def sweeper(self) -> str:
        """The chosen `hydra/sweeper`."""
        return self.composition.choices.get("hydra/sweeper") or BASIC

    @property
    def is_optimization(self) -> bool:
        """Whether a sweeper plug-in chooses the values of the members as it goes."""
        return self.is_sweep and self.sweeper != BASIC

    def sweep_values(self) -> dict[str, str]:
        """Return the values in the sweep file of keys that were not typed: key -> values as in an override."""
        typed = {override.key for override in self.overrides}
        return {
            key: value
            for key, value in self.composition.sweep_params.items()
            if key.replace("/", ".") not in typed
        }

    def swept(self) -> list[str]:
        """Return the overrides of the command line and of the sweep file that list several values."""
        listed = [f"{key}={value}" for key, value in self.sweep_values().items()]
        return [override.text for override in [*parsed(listed), *self.overrides] if override.is_sweep]

    def fixed(self) -> list[str]:
        """Return the overrides that every member has; those about the sweep itself are not the members'."""
        own = ("hydra.sweep.", "hydra.sweeper", "hydra.mode")
        listed = [f"{key}={value}" for key, value in self.sweep_values().items()]
        return [
            override.text
            for override in [*parsed(listed), *self.overrides]
            if not override.is_sweep and not override.key.startswith(own)
        ]


def command_of(arguments: Sequence[str], is_multirun: bool, span: StepRange = WHOLE) -> Command:
    """Compose a command line.

    Raises:
        Refused: an override lists several values, and nothing asks for a multirun.
    """
    overrides = parsed(arguments)
    composition = compose(overrides)
    refuse_launcher_plugins(overrides, composition.choices.get(LAUNCHER))
    is_sweep = is_multirun or composition.is_multirun
    swept = [override.text for override in overrides if override.is_sweep]
    if swept and not is_sweep:
        raise Refused(f"{swept[0]} lists several values, so it is a sweep: put -m before the overrides")
    composition.configure_logging()
    command = Command(overrides, composition, is_sweep, span)
    if not is_sweep:
        _refuse_settings_of_a_sweep(overrides)
    if command.sweeper != BASIC and not is_sweep:
        raise Refused(
            f"hydra/sweeper={command.sweeper} chooses the values of a sweep: put -m before the overrides"
        )
    if command.is_optimization and command.composition.config.sweep.design != "full":
        raise Refused(
            f"sweep.design={command.composition.config.sweep.design} chooses the runs of a sweep, and so does "
            f"hydra/sweeper={command.sweeper}; give one of the two"
        )
    if command.is_optimization and not command.swept():
        raise Refused(
            f"hydra/sweeper={command.sweeper} has no values to choose from; give it some, for example "
            "'learning_rate=interval(1e-5,1e-3)'"
        )
    return command


def _refuse_settings_of_a_sweep(overrides: Sequence[Override]) -> None:
    """Refuse the settings of a sweep that divide the machine, where there is none."""
    for override in overrides:
        if override.key == "sweep.members_per_device":
            raise Refused(
                f"{override.text} divides the GPUs among the runs of a sweep: put -m before the overrides"
            )


def members_of(command: Command) -> list[Member]:
    """Compose and plan every member, before anything is written.

    For a sweeper that chooses values as it goes, the member with the first of all values is planned.
    """
    typed = [override.text for override in command.overrides]
    if not command.is_sweep:
        return [member_of(typed, command.composition, span=command.span)]
    if command.is_optimization:
        return [_first_member(command)]
    combinations = combinations_of(_all_overrides(command), expanded, design_of(command))
    members: list[Member] = []
    begun = time.monotonic()
    for number, combination in enumerate(combinations, start=1):
        members.append(member_of(combination, span=command.span, is_compared=True))
        if number == _SAMPLE:
            seconds = (time.monotonic() - begun) / number * len(combinations)
            if seconds > _SILENCE:
                say(f"planning {len(combinations)} members takes about {seconds:.0f} s")
    return members


def design_of(command: Command) -> Design | None:
    """Return the design of a sweep; None if all combinations of fewer than two factors run.

    Raises:
        Refused: the factors do not fit `sweep.design`.
    """
    sweep = command.composition.config.sweep
    kind, resolution = str(sweep.design), sweep.resolution
    if kind not in get_args(DesignName):  # refused with the other values when the first member is composed
        kind, resolution = "full", None
    if not isinstance(resolution, int):
        resolution = None
    return designed(_all_overrides(command), expanded, kind, resolution)


def _all_overrides(command: Command) -> list[Override]:
    """Return the overrides of the sweep file and of the command line."""
    listed = parsed([f"{key}={value}" for key, value in command.sweep_values().items()])
    return [*listed, *command.overrides]


def _first_member(command: Command) -> Member:
    """Plan the member with the first of all values that a sweeper may choose."""
    swept = command.swept()
    try:
        typed = [*command.fixed(), *(first_value(text) for text in swept)]
        return member_of(typed, span=command.span, is_compared=True)
    except Refused as error:
        if "valid integer" in str(error) and any("interval(" in text for text in swept):
            raise Refused(
                f"{error}; interval(...) gives numbers with a fraction, for whole numbers type int(interval(...))"
            ) from error
        raise


def member_of(
    arguments: Sequence[str],
    composition: Composition | None = None,
    *,
    span: StepRange = WHOLE,
    is_compared: bool = False,
) -> Member:
    """Compose and plan one member.

    Args:
        arguments: Its overrides.
        composition: Its composition, if there is one already.
        span: The steps that may run.
        is_compared: Whether it is a member of a sweep.

    Raises:
        Refused: it cannot be planned, or a step that is left out has to run first.
    """
    experiment = experiment_from(arguments, composition)
    return Member(experiment, within(planned_steps(experiment), span, experiment, is_compared=is_compared))
