"""From typed words to one frozen `Experiment`: composed once, checked whole, before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from r1exp.config.compose import Composition, compose, words_of
from r1exp.config.origin import deltas
from r1exp.config.overrides import Word, quote
from r1exp.config.pipeline import PipelineSettings, StepSpec
from r1exp.config.targets import CARRIED, StepWords, words_for_step
from r1exp.config.validation import validated
from r1exp.errors import Refused
from r1exp.settings import Name, Settings
from r1exp.stage.config import STAGE_KNOBS, StepConfig, knobs_of
from r1exp.stage.kinds import STAGES, StageSettings


class PathSettings(Settings):
    """Every folder r1exp writes to, named in one place."""

    runs: Name  # folder of all runs
    run: Name | None  # folder of this run; null: a new one below `runs`
    store: Name  # finished steps, shared by runs


class Composed(StepConfig):
    """The top of a composition: one step's settings, and what belongs to the run."""

    name: Name
    paths: PathSettings
    pipeline: PipelineSettings | None


@dataclass(frozen=True)
class LadderStep:
    """One rung, composed."""

    name: str
    config: StepConfig
    model_from: str | None  # `base`, a step, or null: the last step that made a model
    data_from: str | None
    reached_by: tuple[str, ...]  # the typed words that reached this step
    composition: Composition  # where its values came from
    words: tuple[Word, ...]  # what it was composed from

    @property
    def stage(self) -> StageSettings:
        """The stage; a step always has one."""
        assert self.config.stage is not None
        return self.config.stage


@dataclass(frozen=True)
class Experiment:
    """What will be run. From here on nobody sees a DictConfig."""

    name: str
    paths: PathSettings
    top: Composed
    composition: Composition  # of the top
    composed_from: tuple[Word, ...]  # what the top was composed from
    words: tuple[str, ...]  # as typed
    focus: str
    steps: tuple[LadderStep, ...]


def experiment_from(texts: Sequence[str]) -> Experiment:
    """Compose and check a command line without sweeps. Needs a `compose.session`.

    Raises:
        Refused: anything that cannot work as typed.
    """
    words = words_of(texts)
    composition = compose(words)
    said = deltas(composition)
    _refuse_stage_and_pipeline(words, said)
    stage = next((word.value for word in words if word.is_group and word.key == "stage"), None)
    if said and stage in STAGES:
        words = _read_by(stage, words, said)
        composition = compose(words)
    top = validated(Composed, composition.values, words)
    if top.stage is not None:
        steps: tuple[LadderStep, ...] = (_single_step(top, composition, words, texts),)
        focus = steps[0].name
    elif top.pipeline is not None:
        steps = _ladder(top.pipeline, words, said)
        focus = top.pipeline.focus
    else:
        raise Refused("nothing to run: name a stage (stage=sft) or a pipeline (pipeline=sft_grpo)")
    return Experiment(
        name=top.name,
        paths=top.paths,
        top=top,
        composition=composition,
        composed_from=tuple(words),
        words=tuple(texts),
        focus=focus,
        steps=steps,
    )


def _refuse_stage_and_pipeline(words: Sequence[Word], said: Sequence[Word]) -> None:
    groups = {word.key: word for word in [*said, *words] if word.is_group}
    stage, pipeline = groups.get("stage"), groups.get("pipeline")
    if stage is None or pipeline is None or pipeline.value in ("", "none") or pipeline.said_in:
        return  # a stage that is typed beside an experiment's ladder runs alone
    where = f" in {stage.said_in}" if stage.said_in else ""
    raise Refused(
        f"{stage.text}{where} runs one step and {pipeline.text} runs a ladder: give one of the two; "
        f"a value for one step of a ladder is typed as pipeline.steps.NAME.set.KEY=..."
    )


def _read_by(stage: str, words: Sequence[Word], said: Sequence[Word]) -> list[Word]:
    """Return the words of a stage that is typed beside an experiment: of the experiment's, those it reads."""
    knobs = frozenset(STAGE_KNOBS) if stage == "rl" else knobs_of(stage, None)
    typed = {word.key for word in words if word.is_group}
    read = [
        word
        for word in said
        if word.head not in ("hydra", "pipeline", "stage")
        and (word.head not in STAGE_KNOBS or word.head in knobs)
        and not (word.is_group and word.key in typed)
    ]
    return [*read, *(word for word in words if word.head not in CARRIED)]


def _single_step(
    top: Composed, composition: Composition, words: Sequence[Word], typed: Sequence[str]
) -> LadderStep:
    assert top.stage is not None
    config = validated(StepConfig, _step_values(composition), words)
    name = config.algorithm.kind if config.algorithm is not None else top.stage.kind
    return LadderStep(
        name=name,
        config=config,
        model_from="base",
        data_from=None,
        reached_by=tuple(typed),
        composition=composition,
        words=tuple(words),
    )


def _ladder(
    pipeline: PipelineSettings, words: Sequence[Word], said: Sequence[Word]
) -> tuple[LadderStep, ...]:
    steps: dict[str, LadderStep] = {}
    for name, spec in pipeline.steps.items():
        source = None if spec.data_from is None else steps[spec.data_from]
        chosen = words_for_step(name, spec, pipeline, words, quote, said)
        steps[name] = _ladder_step(name, spec, chosen, said, source)
    return tuple(steps.values())


def _ladder_step(
    name: str, spec: StepSpec, chosen: StepWords, said: Sequence[Word], source: LadderStep | None
) -> LadderStep:
    inherited: list[str] = []
    if source is not None:  # answers to the same problems are as long
        inherited = [f"++max_completion_length={source.config.max_completion_length}"]
    files = {word.for_hydra(): word.said_in for word in said}
    step_words = [
        replace(word, said_in=files.get(word.text)) for word in words_of([*inherited, *chosen.overrides])
    ]
    composition = compose(step_words)
    values = _step_values(composition)
    config = validated(StepConfig, values, step_words, where=f"step {name}: ")
    return LadderStep(
        name=name,
        config=config,
        model_from=spec.model_from,
        data_from=spec.data_from,
        reached_by=chosen.reached_by,
        composition=composition,
        words=tuple(step_words),
    )


def _step_values(composition: Composition) -> dict[str, Any]:
    run_level = Composed.model_fields.keys() - StepConfig.model_fields.keys()
    return {key: value for key, value in composition.values.items() if key not in run_level}
