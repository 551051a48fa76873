"""The settings of a sweep: how many members run at once, which combinations run, and when it is over."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from r1exp.settings import Settings

ObjectiveName = Literal["accuracy", "tokens", "format"]
DesignName = Literal["full", "fractional", "plackett_burman", "latin"]


class PowerSettings(Settings):
    """What `r1exp plan -m` assumes of a sweep where no earlier runs tell it, and which difference is to be seen."""

    target: PositiveFloat = (
        3.0  # percentage points; the difference for which seeds, problems and answers are counted
    )
    accuracy: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5  # share of right answers
    agreement: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5  # correlation of two answers to one problem
    seed_sd: NonNegativeFloat = (
        2.0  # percentage points; standard deviation of the accuracy over training seeds
    )
    # Percentage points; standard deviation over problems of what a setting adds to the chance of a right answer.
    problem_sd: NonNegativeFloat = 5.0


class SweepSettings(Settings):
    """How the members of a sweep (`-m`) are run."""

    # Members at once, each with its share of the cores and GPUs; auto: as many as cores, memory and GPUs allow; null: one
    # after the other on this machine, and no limit with launcher=slurm.
    parallel: PositiveInt | Literal["auto"] | None = None
    members_per_device: PositiveInt = 1  # members that share one GPU, each with a part of its memory
    # Which combinations of the listed values run, each with every listed seed; docs/design-of-experiments.md.
    design: DesignName = "full"
    # Resolution of a fractional design: 3 keeps main effects apart from each other, 4 also from two-way interactions, 5 those
    # from each other too; null: 4, of three factors 3.
    resolution: Annotated[int, Field(ge=3)] | None = None
    power: PowerSettings = PowerSettings()
    race: bool = False  # give seeds to settings until the best one is known, instead of the same seeds to all
    race_seeds: PositiveInt = 15  # seeds that a setting gets at most
    race_runs: PositiveInt | None = None  # runs of all settings together at most; null: no further limit
    race_delta: NonNegativeFloat = (
        0.01  # a setting worse by at most that counts as good as the best; of the objective, from 0 to 1
    )
    objectives: tuple[ObjectiveName, ...] = (
        "accuracy",
    )  # what the report shows the Pareto front of, and Optuna optimizes

    @field_validator("objectives")
    @classmethod
    def _different(cls, names: tuple[ObjectiveName, ...]) -> tuple[ObjectiveName, ...]:
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"{list(names)}: name each objective once, and at least one; type sweep.objectives=[accuracy,tokens]"
            )
        return names
