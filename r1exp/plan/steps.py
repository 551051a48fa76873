"""Plans the steps of a run, in order, with the evaluations between them; nothing is run.

The accuracies are named after the steps: `pre_sft_accuracy` before the first training step,
`post_sft_accuracy` and `post_grpo_accuracy` after each [sft-grpo].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import InstanceOf

from r1exp.config.experiment import ComposedStep, Experiment, step_name
from r1exp.config.overrides import Override
from r1exp.errors import Refused
from r1exp.files import hash_of, hash_of_folder
from r1exp.model.locate import locate
from r1exp.model.memory import shape_of
from r1exp.model.settings import ModelSettings
from r1exp.plan.batch import batch_of
from r1exp.plan.health_metrics import refuse_unknown_metrics
from r1exp.plan.other_models import hashes_of_models
from r1exp.plan.references import resolved
from r1exp.plan.run_plan import PlanStep, RunPlan
from r1exp.plan.trainer_args import trainer_args
from r1exp.rewards.advice import members_that_need_logprobs
from r1exp.stage.base import STAGE_FIELDS
from r1exp.stage.config import StepConfig
from r1exp.stage.evaluate import Evaluate

BASE = "base"  # names the start model of a run as the source of a step's model


class PlannedStep(PlanStep):
    """A planned step with its composition, which the run itself does not need."""

    composed: InstanceOf[ComposedStep]


def run_plan(experiment: Experiment, steps: tuple[PlannedStep, ...]) -> RunPlan:
    """Return what a run needs to start or continue."""
    return RunPlan(
        name=experiment.name,
        overrides=experiment.arguments,
        focus=experiment.focus,
        config=experiment.run,
        working_directory=str(Path.cwd()),
        steps=steps,
    )


def planned_steps(experiment: Experiment) -> tuple[PlannedStep, ...]:
    """Plan every step of a run.

    Raises:
        Refused: a batch does not divide, there are too few data, a model or data set does not exist, or no step logs
            the metric of a health rule.
    """
    refuse_unknown_metrics(experiment.steps)
    keys: dict[str, str] = {}
    steps: list[PlannedStep] = []
    for sourced in _with_evaluations(experiment):
        step = _planned(len(steps) + 1, sourced, keys)
        keys[step.name] = step.key
        steps.append(step)
    return tuple(steps)


@dataclass(frozen=True)
class _SourcedStep:
    """A composed step, the step its model comes from, and its name in the names of accuracies."""

    composed: ComposedStep
    source: str
    label: str


def _with_evaluations(experiment: Experiment) -> list[_SourcedStep]:
    """Return the steps with their sources, and the evaluations that `evaluation` requests."""
    found: list[_SourcedStep] = []
    model = BASE
    labels = _labels(experiment.steps)
    for position, step in enumerate(experiment.steps):
        source = step.model_from or model
        label = labels[step.name]
        makes_policy = step.stage.makes == "model"
        measured = _measured_on(step, experiment.run) if makes_policy else None
        is_first = not any(earlier.composed.stage.makes == "model" for earlier in found)
        if measured is not None and is_first and measured.evaluation.before:
            found.append(_evaluation(step, measured, source, f"pre_{label}"))
        found.append(_SourcedStep(step, source, label))
        model = step.name if makes_policy else model
        is_measured = _measured_next(experiment.steps[position + 1 :], step.name)
        if measured is not None and measured.evaluation.after and not is_measured:
            found.append(_evaluation(step, measured, step.name, f"post_{label}"))
    return found


def _measured_on(step: ComposedStep, run: StepConfig) -> StepConfig | None:
    """Return the settings for evaluating a step's policy: its own data, or the run's if an earlier step makes them."""
    config = step.config
    if config.dataset.has_answers and step.data_from is None:
        return config
    if not run.dataset.has_answers:
        return None
    borrowed = ("dataset", "evaluation", "max_completion_length")
    return config.model_copy(update={name: getattr(run, name) for name in borrowed})


def _measured_next(later: tuple[ComposedStep, ...], name: str) -> bool:
    """Whether the next step of the pipeline evaluates step `name`."""
    return bool(later) and later[0].stage.makes == "scores" and later[0].model_from in (None, name)


def _labels(steps: tuple[ComposedStep, ...]) -> dict[str, str]:
    """Return step name -> name of its algorithm or stage, or its own name if two steps would share a label."""
    short = {step.name: _short(step) for step in steps}
    values = list(short.values())
    return {name: label if values.count(label) == 1 else name for name, label in short.items()}


def _short(step: ComposedStep) -> str:
    if step.config.algorithm is not None:
        return step_name(step.config.algorithm.kind)
    return step.stage.kind if step.stage.makes == "model" else step.name


def _evaluation(trained: ComposedStep, measured: StepConfig, source: str, label: str) -> _SourcedStep:
    """Return the evaluation of a model before or after the step `trained`, with its prompt and seed."""
    unread = dict.fromkeys(STAGE_FIELDS)
    config = measured.model_copy(update={**unread, "trainer": {}, "stage": Evaluate(kind="evaluate")})
    composed = ComposedStep(
        name=f"evaluate-{label.replace('_', '-')}",
        config=config,
        model_from=source,
        data_from=None,
        typed=tuple(override for override in trained.typed if _is_read_by_evaluation(override, trained.name)),
        composition=trained.composition,
        overrides=trained.overrides,
    )
    return _SourcedStep(composed, source, label)


def _is_read_by_evaluation(override: Override, step: str) -> bool:
    key = override.key.removeprefix(f"pipeline.steps.{step}.set.")
    return key.split(".")[0] not in (*STAGE_FIELDS, "stage")


def _planned(index: int, sourced: _SourcedStep, keys: dict[str, str]) -> PlannedStep:
    composed, source = sourced.composed, sourced.source
    stage, data_from = composed.stage, composed.data_from
    config = composed.config if data_from is None else stage.reading_from(composed.config, data_from)
    model_key = _base_key(config.model) if source == BASE else keys[source]
    _refuse_what_needs_logprobs(config)
    _refuse_beyond_context(config)
    device = config.launcher.resolved_device()
    if config.generates:
        config.rollout.check(config.launcher, device, config.trainer if config.online is not None else None)
    num_problems = None if data_from else config.dataset.count(stage.split)
    batch = batch_of(config, num_problems) if stage.trains else None
    identity = resolved(config.deciding_settings(), lambda name: _key_of(name, keys, composed.name))
    identity["model"].pop("path")
    data = stage.fingerprint(config) if data_from is None else keys[data_from]
    if data_from is None:
        identity["dataset"] = data
    identity |= hashes_of_models(config)
    return PlannedStep(
        index=index,
        name=composed.name,
        label=sourced.label,
        config=config,
        model_from=source,
        key=hash_of({"settings": identity, "model": model_key}),
        data=data,
        device=device,
        num_problems=num_problems,
        batch=batch,
        trainer_args={} if batch is None else trainer_args(config, batch, device),
        composed=composed,
    )


def _key_of(name: str, keys: dict[str, str], step: str) -> str:
    if name not in keys:
        raise Refused(f"step {step!r} reads artifact:{name}, which is none of the earlier steps {list(keys)}")
    return keys[name]


def _refuse_what_needs_logprobs(config: StepConfig) -> None:
    members = members_that_need_logprobs(config.rewards or {})
    if members and not config.rollout.returns_logprobs:
        raise Refused(
            f"rewards.{members[0]} weights votes by log-probabilities, which rollout={config.rollout.kind} does not pass "
            f"to rewards; set rewards.{members[0]}.confidence=false, or use rollout=vllm_colocate"
        )


def _refuse_beyond_context(config: StepConfig) -> None:
    """Raise Refused if completions leave no room for a prompt; the step itself checks the length of each prompt."""
    if not config.generates or config.rollout.is_remote:
        return
    shape = shape_of(config.model)
    limit, what = config.rollout.length_limit(None if shape is None else shape.max_position_embeddings)
    setting, num_tokens = config.longest_completion
    if limit is not None and num_tokens >= limit:
        raise Refused(f"{setting}={num_tokens} leaves no room for a prompt in {what}")


def _base_key(model: ModelSettings) -> str:
    """Return an identifier of the weights that a run starts from."""
    place = locate(model)
    if place is None:
        return "built"  # model.shape and model.init_seed are among the settings
    if isinstance(place, Path):
        return hash_of_folder(place)
    return f"{place}@{model.revision or 'main'}"


def targets_of(override: Override, steps: Sequence[PlannedStep]) -> list[str]:
    """Return the names of the steps that a typed override applies to."""
    return [step.name for step in steps if override in step.composed.typed]
