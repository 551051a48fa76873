"""Composes a command line into one frozen, validated `Experiment`, before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from r1exp.config.compose import Composition, compose, compose_steps, parsed
from r1exp.config.debug import cut_short, typed_keys
from r1exp.config.origin import experiment_overrides
from r1exp.config.overrides import Override
from r1exp.config.pipeline import PipelineSettings
from r1exp.config.targets import NAMED, overrides_for_step
from r1exp.config.validation import validated
from r1exp.errors import Refused
from r1exp.settings import Name, Settings
from r1exp.stage.base import STAGE_FIELDS, Stage
from r1exp.stage.config import StepConfig, fields_read_by
from r1exp.stage.menu import STAGES

_LENGTH = "max_completion_length"
ObjectiveName = Literal["accuracy", "tokens", "format"]


class PathSettings(Settings):
    """Every folder that r1exp writes to."""

    runs: Name  # folder of all runs
    run: Name | None  # folder of this run; null: a new one below `runs`
    store: Name  # finished steps, shared by runs


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


class ForkSettings(Settings):
    """The checkpoint that a step of the run begins with; `r1exp fork RUN@STEP` sets it."""

    run: Name | None = None  # directory of the run that wrote it; null: no fork
    step: Name | None = None  # the step that is forked
    at: PositiveInt | None = None  # optimizer steps that the checkpoint has taken

    @model_validator(mode="after")
    def _is_whole_or_nothing(self) -> Self:
        if len({value is None for value in (self.run, self.step, self.at)}) > 1:
            raise ValueError(
                "fork.run, fork.step and fork.at go together; type r1exp fork RUN@STEP KEY=VALUE, which sets them"
            )
        return self


class RunConfig(StepConfig):
    """The composed configuration of a run: settings of one step, and settings of the run as a whole."""

    name: Name  # name of the run: part of its folder's name, and shown in W&B and in the report
    paths: PathSettings  # the folders that r1exp writes to
    sweep: SweepSettings = SweepSettings()  # how the members of a sweep are run
    fork: ForkSettings = ForkSettings()  # the checkpoint that a step begins with
    pipeline: PipelineSettings | None  # several steps instead of one


@dataclass(frozen=True)
class ComposedStep:
    """One step of a run, composed and validated."""

    name: str
    config: StepConfig
    model_from: str | None  # `base`, a step, or None: the last step that made a model
    data_from: str | None  # a step, or None: the step's own data set
    typed: tuple[Override, ...]  # the typed overrides that apply to it
    composition: Composition  # names the files its values come from
    overrides: tuple[Override, ...]  # all overrides it was composed from

    @property
    def stage(self) -> Stage:
        """The stage; a step always has one."""
        assert self.config.stage is not None
        return self.config.stage


@dataclass(frozen=True)
class Experiment:
    """A validated run. No later code uses a DictConfig."""

    run: RunConfig
    composition: Composition  # of the run
    overrides: tuple[Override, ...]  # all overrides the run was composed from
    arguments: tuple[str, ...]  # as typed
    focus: str
    steps: tuple[ComposedStep, ...]

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.run.name


def experiment_from(arguments: Sequence[str], composition: Composition | None = None) -> Experiment:
    """Compose and validate a command line without sweeps. Needs a `compose.session`.

    Args:
        arguments: Overrides.
        composition: Composition of the same overrides, if they have been composed already.

    Raises:
        Refused: the overrides cannot work as typed.
    """
    composition = composition or compose(parsed(arguments))
    overrides = list(composition.parsed)
    from_files = experiment_overrides(composition)
    _refuse_stage_and_pipeline(overrides, from_files)
    stage = next(
        (override.value for override in overrides if override.is_group and override.key == "stage"), ""
    )
    if from_files and stage in STAGES.kinds():
        overrides = _read_by(stage, overrides, from_files)
        composition = compose(overrides)
    debug = composition.choices.get("debug") or "none"
    whole = [*overrides, *cut_short(composition.config, typed_keys(overrides), debug)]
    run = validated(RunConfig, composition.values, overrides)
    if run.stage is not None:
        steps: tuple[ComposedStep, ...] = (_single_step(run.stage, composition, whole, arguments),)
        focus = steps[0].name
    elif run.pipeline is not None:
        steps = _steps_of(run.pipeline, overrides, from_files, debug)
        focus = run.pipeline.focus
    else:
        raise Refused("nothing to run: name a stage (stage=sft) or a pipeline (pipeline=sft_grpo)")
    return Experiment(run, composition, tuple(whole), tuple(arguments), focus, steps)


def _refuse_stage_and_pipeline(typed: Sequence[Override], from_files: Sequence[Override]) -> None:
    groups = {override.key: override for override in [*from_files, *typed] if override.is_group}
    stage, pipeline = groups.get("stage"), groups.get("pipeline")
    if stage is None or pipeline is None or pipeline.value in ("", "none") or pipeline.file:
        return  # a stage that is typed with an experiment replaces the experiment's pipeline
    where = f" in {stage.file}" if stage.file else ""
    raise Refused(
        f"{stage.text}{where} runs one step and {pipeline.text} runs a pipeline: give one of the two; "
        f"to set a value of one step of a pipeline, type pipeline.steps.NAME.set.KEY=..."
    )


def _read_by(stage: str, typed: Sequence[Override], from_files: Sequence[Override]) -> list[Override]:
    """Return the overrides of a stage that is typed with an experiment; of the experiment's, only those it reads."""
    fields = fields_read_by(stage, None)
    chosen = {override.key for override in typed if override.is_group}
    read = [
        override
        for override in from_files
        if override.head not in ("hydra", "pipeline", "stage")
        and (override.head not in STAGE_FIELDS or override.head in fields)
        and not (override.is_group and override.key in chosen)
    ]
    return [*read, *(override for override in typed if override.head not in NAMED)]


def _single_step(
    stage: Stage, composition: Composition, overrides: Sequence[Override], arguments: Sequence[str]
) -> ComposedStep:
    config = validated(StepConfig, _step_values(composition), overrides)
    algorithm = stage.algorithm_of(config)
    typed = {override.text: override for override in overrides}
    return ComposedStep(
        name=stage.kind if algorithm is None else step_name(algorithm.kind),
        config=config,
        model_from="base",
        data_from=None,
        typed=tuple(typed[text] for text in arguments if text in typed),
        composition=composition,
        overrides=tuple(overrides),
    )


def step_name(kind: str) -> str:
    """Return the name of a step for a kind; for an import path, the name of the class."""
    return kind.rpartition(":")[2]


def _steps_of(
    pipeline: PipelineSettings, typed: Sequence[Override], from_files: Sequence[Override], debug: str
) -> tuple[ComposedStep, ...]:
    chosen = {
        name: overrides_for_step(name, spec, pipeline, typed, from_files)
        for name, spec in pipeline.steps.items()
    }
    compositions = compose_steps({name: found.all for name, found in chosen.items()})
    steps: dict[str, ComposedStep] = {}
    for name, spec in pipeline.steps.items():
        composition, overrides = compositions[name], chosen[name].all
        if spec.data_from is not None and all(given.key != _LENGTH for given in overrides):
            # Its completions answer the same problems. Set before interpolations are resolved.
            composition.config[_LENGTH] = steps[spec.data_from].config.max_completion_length
        overrides += cut_short(composition.config, typed_keys(chosen[name].typed, name), debug)
        steps[name] = ComposedStep(
            name=name,
            config=validated(StepConfig, _step_values(composition), overrides, where=f"step {name}: "),
            model_from=spec.model_from,
            data_from=spec.data_from,
            typed=chosen[name].typed,
            composition=composition,
            overrides=overrides,
        )
    return tuple(steps.values())


def _step_values(composition: Composition) -> dict[str, Any]:
    run_level = RunConfig.model_fields.keys() - StepConfig.model_fields.keys()
    return {key: value for key, value in composition.values.items() if key not in run_level}
