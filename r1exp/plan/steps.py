"""The steps of a run, in order, with the evaluations between them; nothing has run yet.

Names of the measured accuracies follow the ladder: `pre_sft_accuracy` before the first training
step, `post_sft_accuracy` and `post_grpo_accuracy` after each (seed 003).
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import SkipValidation

from r1exp.config.experiment import Experiment, LadderStep
from r1exp.dataset.rows import fingerprint_of_file
from r1exp.errors import Refused
from r1exp.files import hash_of, hash_of_folder
from r1exp.launcher.command import device_of
from r1exp.model.locate import locate
from r1exp.model.memory import shape_of
from r1exp.model.settings import ModelSettings
from r1exp.plan.batch import batch_of
from r1exp.plan.other_models import hashes_of_models
from r1exp.plan.references import PREFIX, resolved
from r1exp.plan.run_plan import FrozenPlan, FrozenStep
from r1exp.plan.trainer_args import trainer_args
from r1exp.rewards.advice import members_that_need_logprobs
from r1exp.rollout.settings import Endpoint
from r1exp.serving.trainer_arguments import refuse_vllm_where_it_cannot_work
from r1exp.stage.config import STAGE_KNOBS, StepConfig, scientific
from r1exp.stage.kinds import SAMPLES, Evaluate, Preferences, Sample

BASE = "base"  # the model a run starts from, as a source


class PlannedStep(FrozenStep):
    """A step and how it came to be, which the run itself does not need."""

    reached_by: tuple[str, ...]  # typed words
    rung: SkipValidation[LadderStep]


def frozen_plan(experiment: Experiment, steps: tuple[PlannedStep, ...]) -> FrozenPlan:
    """Return what a run needs of its composition."""
    return FrozenPlan(
        name=experiment.name,
        words=experiment.words,
        focus=experiment.focus,
        top=experiment.top,
        workplace=str(Path.cwd()),
        steps=steps,
    )


def planned_steps(experiment: Experiment) -> tuple[PlannedStep, ...]:
    """Work out every step of a run.

    Raises:
        Refused: what cannot work: batches that do not divide, too little data, no such model or data.
    """
    keys: dict[str, str] = {}
    steps: list[PlannedStep] = []
    for rung in _with_evaluations(experiment):
        source = rung.model_from
        assert source is not None
        step = _planned(len(steps) + 1, rung, source, keys)
        keys[step.name] = step.key
        steps.append(step)
    return tuple(steps)


@dataclass(frozen=True)
class _Rung(LadderStep):
    label: str = ""


def _with_evaluations(experiment: Experiment) -> list[_Rung]:
    """Return the ladder with its sources resolved and evaluations put in where `evaluation` asks for them."""
    rungs: list[_Rung] = []
    model = BASE
    labels = _labels(experiment.steps)
    for position, step in enumerate(experiment.steps):
        source = step.model_from or model
        label = labels[step.name]
        makes_policy = step.stage.makes == "model"
        measured = _measured_on(step, experiment.top) if makes_policy else None
        is_first = not any(rung.stage.makes == "model" for rung in rungs)
        if measured is not None and is_first and measured.evaluation.before:
            rungs.append(_evaluation(step, measured, source, f"pre_{label}"))
        rungs.append(_Rung(**{**vars(step), "model_from": source}, label=label))
        model = step.name if makes_policy else model
        is_measured = _measured_next(experiment.steps[position + 1 :], step.name)
        if measured is not None and measured.evaluation.after and not is_measured:
            rungs.append(_evaluation(step, measured, step.name, f"post_{label}"))
    return rungs


def _measured_on(step: LadderStep, top: StepConfig) -> StepConfig | None:
    """Return what a step's policy is measured with: its own data or, where an earlier step made them, the run's."""
    config = step.config
    if config.dataset.has_answers and step.data_from is None:
        return config
    if not top.dataset.has_answers:
        return None
    borrowed = ("dataset", "evaluation", "max_completion_length")
    return config.model_copy(update={name: getattr(top, name) for name in borrowed})


def _measured_next(later: tuple[LadderStep, ...], name: str) -> bool:
    """Whether the ladder itself measures step `name` right away."""
    return bool(later) and isinstance(later[0].stage, Evaluate) and later[0].model_from in (None, name)


def _labels(steps: tuple[LadderStep, ...]) -> dict[str, str]:
    """Return step name -> the algorithm's or the stage's name, or its own where two would share one."""
    short = {step.name: _short(step) for step in steps}
    values = list(short.values())
    return {name: label if values.count(label) == 1 else name for name, label in short.items()}


def _short(step: LadderStep) -> str:
    if step.config.algorithm is not None:
        return step.config.algorithm.kind
    return step.stage.kind if step.stage.makes == "model" else step.name


def _evaluation(trained: LadderStep, measured: StepConfig, source: str, label: str) -> _Rung:
    """Return the measurement of what `trained` starts from or made, with its model, prompt and seed."""
    nothing = dict.fromkeys(STAGE_KNOBS)
    config = measured.model_copy(update={**nothing, "trainer": {}, "stage": Evaluate(kind="evaluate")})
    name = f"evaluate-{label.replace('_', '-')}"
    return _Rung(
        name=name,
        config=config,
        model_from=source,
        data_from=None,
        reached_by=trained.reached_by,
        composition=trained.composition,
        words=trained.words,
        label=label,
    )


def _planned(index: int, rung: _Rung, source: str, keys: dict[str, str]) -> PlannedStep:
    config = rung.config if rung.data_from is None else _reading_from(rung.config, rung.data_from)
    model_key = _base_key(config.model) if source == BASE else keys[source]
    _refuse_what_needs_logprobs(config)
    _refuse_beyond_context(config)
    device = device_of(config.launcher)
    refuse_vllm_where_it_cannot_work(config, device)
    num_problems = None if rung.data_from else config.dataset.count("test" if _measures(rung) else "train")
    batch = batch_of(config, num_problems) if rung.stage.trains else None
    identity = resolved(scientific(config), lambda name: _key_of(name, keys, rung.name))
    identity["model"].pop("path")
    data = _data_of(config) if rung.data_from is None else keys[rung.data_from]
    if rung.data_from is None:
        identity["dataset"] = data
    identity |= hashes_of_models(config)
    return PlannedStep(
        index=index,
        name=rung.name,
        label=rung.label,
        config=config,
        model_from=source,
        key=hash_of({"settings": identity, "model": model_key}),
        data=data,
        device=device,
        num_problems=num_problems,
        batch=batch,
        trainer_args={} if batch is None else trainer_args(config, batch, device),
        reached_by=rung.reached_by,
        rung=rung,
    )


def _measures(rung: LadderStep) -> bool:
    return isinstance(rung.stage, Evaluate)


def _data_of(config: StepConfig) -> str:
    if isinstance(config.stage, Preferences) and config.stage.samples is not None:
        return fingerprint_of_file(Path(config.stage.samples).expanduser() / SAMPLES)
    return config.dataset.fingerprint()


def _key_of(name: str, keys: dict[str, str], step: str) -> str:
    if name not in keys:
        raise Refused(f"step {step!r} reads artifact:{name}, which is none of the earlier steps {list(keys)}")
    return keys[name]


def _reading_from(config: StepConfig, source: str) -> StepConfig:
    """Return `config` with its data, or the answers it compares, taken from an earlier step."""
    if isinstance(config.stage, Preferences):
        stage = config.stage.model_copy(update={"samples": f"{PREFIX}{source}"})
        return config.model_copy(update={"stage": stage})
    if "path" not in type(config.dataset).model_fields:
        raise Refused(
            f"data_from={source} is a file, and dataset={config.dataset.kind} reads none; give the step "
            "`use: {dataset: jsonl}` or `use: {dataset: preference}`"
        )
    dataset = config.dataset.model_copy(update={"path": f"{PREFIX}{source}/data.jsonl"})
    return config.model_copy(update={"dataset": dataset})


def _refuse_what_needs_logprobs(config: StepConfig) -> None:
    members = members_that_need_logprobs(config.rewards or {})
    if members and not config.rollout.hands_logprobs:
        raise Refused(
            f"rewards.{members[0]} weighs votes by log-probabilities, which rollout={config.rollout.kind} does not hand "
            f"to rewards; set rewards.{members[0]}.confidence=false, or use rollout=vllm_colocate"
        )


def _refuse_beyond_context(config: StepConfig) -> None:
    """Refuse completions that no prompt could stand before; the prompts themselves are measured by the step."""
    generates = config.online is not None or isinstance(config.stage, Evaluate | Sample)
    if not generates or isinstance(config.rollout, Endpoint):
        return
    shape = shape_of(config.model)
    limit, what = config.rollout.tightest(None if shape is None else shape.max_position_embeddings)
    setting, num_tokens = config.longest_completion
    if limit is not None and num_tokens >= limit:
        raise Refused(f"{setting}={num_tokens} leaves no room for a prompt in {what}")


def _base_key(model: ModelSettings) -> str:
    """Return what identifies the weights a run starts from."""
    place = locate(model)
    if place is None:
        return "built"  # model.shape and model.init_seed are among the settings
    if isinstance(place, Path):
        return hash_of_folder(place)
    return f"{place}@{model.revision or 'main'}"
