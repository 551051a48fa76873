"""Composes a command line into one frozen, validated `Experiment`, before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from r1exp.config.compose import Composition, compose, compose_steps, parsed
from r1exp.config.debug import cut_short, typed_keys
from r1exp.config.fork import ForkSettings
from r1exp.config.origin import experiment_overrides
from r1exp.config.overrides import Override
from r1exp.config.pipeline import PipelineSettings
from r1exp.config.sweep import SweepSettings
from r1exp.config.targets import NAMED, overrides_for_step
from r1exp.config.validation import validated
from r1exp.errors import Refused
from r1exp.settings import Name, Settings
from r1exp.stage.base import STAGE_FIELDS, Stage
from r1exp.stage.config import StepConfig, fields_read_by
from r1exp.stage.menu import STAGES

_LENGTH = "max_completion_length"


class PathSettings(Settings):
    """Every folder that r1exp writes to."""

    runs: Name  # folder of all runs
    run: Name | None  # folder of this run; null: a new one below `runs`
    store: Name  # finished steps, shared by runs


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
