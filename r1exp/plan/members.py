"""Expands a command line into its members: one run, or the runs of a sweep, each composed, validated and planned."""

from collections.abc import Sequence
from dataclasses import dataclass

from r1exp.config.compose import Composition, compose, expanded, parsed
from r1exp.config.experiment import Experiment, experiment_from
from r1exp.config.overrides import Override
from r1exp.errors import Refused
from r1exp.plan.steps import PlannedStep, planned_steps

BASIC = "basic"  # Hydra's sweeper that runs every combination


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

    @property
    def sweeper(self) -> str:
        """The chosen `hydra/sweeper`."""
        return self.composition.choices.get("hydra/sweeper") or BASIC


def command_of(arguments: Sequence[str], is_multirun: bool) -> Command:
    """Compose a command line.

    Raises:
        Refused: an override lists several values, and nothing asks for a multirun.
    """
    overrides = parsed(arguments)
    composition = compose(overrides)
    is_sweep = is_multirun or composition.is_multirun
    swept = [override.text for override in overrides if override.is_sweep]
    if swept and not is_sweep:
        raise Refused(f"{swept[0]} lists several values, so it is a sweep: put -m before the overrides")
    return Command(overrides, composition, is_sweep)


def members_of(command: Command) -> list[Member]:
    """Compose and plan every member, before anything is written.

    For a sweeper that chooses values as it goes, only the command without swept values is planned.
    """
    typed = [override.text for override in command.overrides]
    if not command.is_sweep:
        return [member_of(typed, command.composition)]
    known = {override.key for override in command.overrides}
    params = command.composition.sweep_params
    listed = [f"{key}={value}" for key, value in params.items() if key not in known] + typed
    if command.sweeper != BASIC:
        return [member_of([override.text for override in parsed(listed) if not override.is_sweep])]
    return [member_of(combination) for combination in expanded(listed)]


def member_of(arguments: Sequence[str], composition: Composition | None = None) -> Member:
    """Compose and plan one member."""
    experiment = experiment_from(arguments, composition)
    return Member(experiment, planned_steps(experiment))
