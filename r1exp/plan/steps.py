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
from r1exp.files import hash_of
from r1exp.hub import commit_of
from r1exp.launcher.base import Device
from r1exp.model.locate import locate
from r1exp.model.preview import check_template
from r1exp.model.remote_code import check_code
from r1exp.model.settings import ModelSettings
from r1exp.model.shapes import shape_of
from r1exp.plan.batch import Batch, batch_of
from r1exp.plan.fit import chosen
from r1exp.plan.fork import forked, of_parent, parent_of
from r1exp.plan.health_metrics import refuse_unknown_metrics
from r1exp.plan.other_models import refuse_code_of_artifacts
from r1exp.plan.provenance import inputs_of, versions, without
from r1exp.plan.references import names_in, resolved
from r1exp.plan.run_plan import PlanStep, RunPlan, variant_of
from r1exp.plan.trainer_args import trainer_args
from r1exp.rewards.advice import evaluating_member, members_that_need_logprobs
from r1exp.rewards.base import Reward
from r1exp.stage.base import STAGE_FIELDS
from r1exp.stage.config import StepConfig
from r1exp.stage.evaluate import Evaluate

_WEIGHTS = ("model.path", "model.revision", "model.init_seed")  # settings that name a step's start weights
BASE = "base"  # names the start model of a run as the source of a step's model


class PlannedStep(PlanStep):
    """A planned step with its composition, which the run itself does not need."""

    composed: InstanceOf[ComposedStep]
    belongs_to: str  # the step of the pipeline that it is, or that it evaluates


def run_plan(experiment: Experiment, steps: tuple[PlannedStep, ...], is_compared: bool = False) -> RunPlan:
    """Return what a run needs to start or continue."""
    return RunPlan(
        name=experiment.name,
        overrides=experiment.arguments,
        focus=experiment.focus,
        config=experiment.run,
        working_directory=str(Path.cwd()),
        steps=steps,
        is_compared=is_compared,
    )


def planned_steps(experiment: Experiment) -> tuple[PlannedStep, ...]:
    """Plan every step of a run.

    Raises:
        Refused: a batch does not divide, there are too few data, a model or data set does not exist, or no step logs
            the metric of a health rule.
    """
    refuse_unknown_metrics(experiment.steps)
    keys: dict[str, str] = {}
    variants: dict[str, str] = {}
    starts: dict[str, ModelSettings] = {}  # step -> the model that its weights come from
    steps: list[PlannedStep] = []
    sourced_steps = _with_evaluations(experiment)
    parent = parent_of(experiment.run)
    _refuse_shared_names(sourced_steps)
    for sourced in sourced_steps:
        step = _planned(len(steps) + 1, sourced, keys, variants, experiment.run.sweep.members_per_device)
        if parent is not None:
            step = (
                forked(step, parent, keys) if step.name == parent.step.name else of_parent(step, parent, keys)
            )
        refuse_code_of_artifacts(step.config, starts)
        starts[step.name] = starts.get(step.model_from, step.config.model)
        keys[step.name] = step.key
        variants[step.name] = step.variant
        steps.append(step)
    return tuple(steps)


@dataclass(frozen=True)
class _SourcedStep:
    """A composed step, the step its model comes from, and its name in the names of accuracies."""

    composed: ComposedStep
    source: str
    label: str
    belongs_to: str  # the step of the pipeline that it is, or that it evaluates


def _with_evaluations(experiment: Experiment) -> list[_SourcedStep]:
    """Return the steps with their sources, and the evaluations that `evaluation` requests."""
    found: list[_SourcedStep] = []
    model = BASE
    labels = _labels(experiment.steps)
    judges = _judges(experiment)
    for position, step in enumerate(experiment.steps):
        source = step.model_from or model
        if source != BASE:
            _refuse_own_weights(step, source, experiment.run)
        label = labels[step.name]
        makes_policy = step.stage.makes == "model"
        measured = _measured_on(step, experiment.run) if makes_policy else None
        is_first = not any(earlier.composed.stage.makes == "model" for earlier in found)
        if measured is not None and is_first and measured.evaluation.before:
            found.append(_evaluation(step, measured, source, f"pre_{label}", judges))
        found.append(_SourcedStep(step, source, label, step.name))
        model = step.name if makes_policy else model
        is_measured = _measured_next(experiment.steps[position + 1 :], step.name)
        if measured is not None and measured.evaluation.after and not is_measured:
            found.append(_evaluation(step, measured, step.name, f"post_{label}", judges))
    return found


def _refuse_own_weights(step: ComposedStep, source: str, run: StepConfig) -> None:
    """Raise Refused if a step that continues from another step's model names the weights of another one."""
    for override in step.overrides:
        name = override.key.removeprefix("model.")
        if override.set_by is None or override.key not in _WEIGHTS:
            continue
        if getattr(step.config.model, name) != getattr(run.model, name):
            raise Refused(
                f"{override.set_by} has no effect, because step {step.name} starts from the model that step {source} made; "
                f"leave it out, or add pipeline.steps.{step.name}.model_from={BASE}"
            )


def _measured_on(step: ComposedStep, run: StepConfig) -> StepConfig | None:
    """Return the settings for evaluating a step's policy: its own data, or the run's if an earlier step makes them."""
    config = step.config
    suites = config.evaluation.suites.values()
    if (suites or config.evaluation.harness is not None) and all(suite.dataset for suite in suites):
        return config  # the data of the step are not asked
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
    """Return step name -> label: the name of its algorithm or stage, or its own name where that is not unique.

    The accuracies of a run are named after the labels, so two steps that share one would overwrite each other's.
    """
    labels = {step.name: _short(step) for step in steps}
    while shared := [
        name for name, label in labels.items() if name != label and list(labels.values()).count(label) > 1
    ]:
        labels |= {name: name for name in shared}
    return labels


def _refuse_shared_names(steps: Sequence[_SourcedStep]) -> None:
    """Raise Refused if two steps would write the same accuracy, or have the same folder."""
    for found in ([step.label for step in steps], [step.composed.name for step in steps]):
        for name in found:
            if found.count(name) > 1:
                owners = [step.composed.name for step in steps if name in (step.label, step.composed.name)]
                raise Refused(
                    f"two steps would be reported as {name!r}: {' and '.join(owners)}; give the step of the pipeline "
                    "another name"
                )


def _short(step: ComposedStep) -> str:
    if step.config.algorithm is not None:
        return step_name(step.config.algorithm.kind)
    return step.stage.kind if step.stage.makes == "model" else step.name


def _judges(experiment: Experiment) -> dict[str, Reward] | None:
    """Return the rewards of all evaluations of a run: the member that judges held-out answers, or for best@k the committee.

    The committee is that of the focus step, or of the last step that has one; the member that judges belongs to the first
    rewards in a pipeline that have one.
    """
    steps = experiment.steps
    if experiment.run.evaluation.best_of:
        committees = [step.config.rewards for step in steps if step.config.rewards is not None]
        focus = next((step.config.rewards for step in steps if step.name == experiment.focus), None)
        return focus or (committees[-1] if committees else None)
    for step in steps:
        name = evaluating_member(step.config.rewards)
        if name is not None and step.config.rewards is not None:
            return {name: step.config.rewards[name]}
    return None


def _evaluation(
    trained: ComposedStep,
    measured: StepConfig,
    source: str,
    label: str,
    judges: dict[str, Reward] | None,
) -> _SourcedStep:
    """Return the evaluation of a model before or after the step `trained`, with its prompt and seed."""
    unread = dict.fromkeys(STAGE_FIELDS)
    evaluation = measured.evaluation
    suites = evaluation.resolved(measured.dataset, measured.prompt)
    is_read = evaluation.best_of or any(suite.judge == "reward" for suite in suites)
    rewards = judges if is_read else None
    config = measured.model_copy(
        update={
            **unread,
            "dataset": measured.dataset.unordered(),
            "trainer": {},
            "rewards": rewards,
            "stage": Evaluate(kind="evaluate"),
        }
    )
    composed = ComposedStep(
        name=f"evaluate-{label.replace('_', '-')}",
        config=config,
        model_from=source,
        data_from=None,
        typed=tuple(override for override in trained.typed if _is_read_by_evaluation(override, trained.name)),
        composition=trained.composition,
        overrides=trained.overrides,
    )
    return _SourcedStep(composed, source, label, trained.name)


def _is_read_by_evaluation(override: Override, step: str) -> bool:
    key = override.key.removeprefix(f"pipeline.steps.{step}.set.")
    return key.split(".")[0] not in (*STAGE_FIELDS, "stage")


def _planned(
    index: int, sourced: _SourcedStep, keys: dict[str, str], variants: dict[str, str], sharing: int
) -> PlannedStep:
    """Plan one step.

    Args:
        index: Its position, from 1.
        sourced: The composed step and where its model comes from.
        keys: Names of the earlier steps -> their keys.
        variants: Names of the earlier steps -> the second parts of their keys.
        sharing: Members of a sweep that share one GPU.
    """
    composed, source = sourced.composed, sourced.source
    stage, data_from = composed.stage, composed.data_from
    config = _pinned(_on_the_machine(composed.config, sharing), source, data_from)
    config = config if data_from is None else stage.reading_from(config, data_from)
    _refuse_what_needs_logprobs(config)
    _refuse_beyond_context(config)
    if source == BASE and not config.rollout.is_remote:
        check_code(config.model, locate(config.model))
        check_template(config.model)
    device = config.launcher.resolved_device()
    if config.generates:
        config.rollout.check(config.launcher, device, config.trainer if config.online is not None else None)
    num_problems = None if data_from else stage.check_data(config, stage.count(config))
    config = chosen(config, device, num_problems, sharing)
    batch = batch_of(config, num_problems) if stage.trains else None
    inputs = inputs_of(config, from_base=source == BASE, own_data=data_from is None)
    data = _data_key(config, inputs, keys, composed.name) if data_from is None else keys[data_from]
    model_key = inputs.get("model.path") if source == BASE or not config.loads_model else keys[source]
    # A path counts with the content that it names, so that its spelling does not matter.
    settings = without(config.deciding_settings(), inputs)
    identity = resolved(settings, lambda name: _key_of(name, keys, composed.name))
    identity |= {"dataset": data, "inputs": inputs, "versions": versions(config)}
    reads, numerics = _reads(config, source, data_from), _numerics(config, batch, device)
    return PlannedStep(
        index=index,
        name=composed.name,
        label=sourced.label,
        config=config,
        model_from=source,
        key=hash_of({"settings": identity, "model": model_key}),
        data=data,
        reads=reads,
        numerics=numerics,
        variant=variant_of(numerics, [variants[name] for name in reads]),
        inputs=inputs,
        device=device,
        num_problems=num_problems,
        batch=batch,
        trainer_args={} if batch is None else trainer_args(config, batch, device),
        composed=composed,
        belongs_to=sourced.belongs_to,
    )


def _on_the_machine(config: StepConfig, sharing: int) -> StepConfig:
    """Return the settings with a number of ranks, which depends on the GPUs, and the share of them that an engine gets."""
    server = config.rollout.server if config.online is not None else None
    launcher = config.launcher
    kept = 0 if server is None or launcher.has_server_node else server.num_devices
    counted = launcher.for_step(kept, _can_share(config))
    is_alone = config.stage is not None and not config.stage.trains
    rollout = config.rollout.when_alone() if is_alone else config.rollout
    return config.model_copy(
        update={"launcher": counted, "rollout": rollout.among(sharing) if sharing > 1 else rollout}
    )


def _can_share(config: StepConfig) -> bool:
    """Whether two ranks can share a step: its rows divide, and no engine runs in each of them.

    Nor do ranks share an endpoint, at which each would keep `rollout.concurrency` and the limits per minute on its own.
    """
    if config.generates and (config.rollout.uses_vllm or config.rollout.is_remote):
        return False
    if config.stage is None or not config.stage.trains:
        return True
    rows = config.rows
    return rows.number % 2 == 0 and (rows.number // 2) % rows.least_per_device == 0


def _pinned(config: StepConfig, source: str, data_from: str | None) -> StepConfig:
    """Return the settings with what they name found: commits instead of branches of the hub, which could move before the
    step starts, and folders of models instead of runs."""
    place = locate(config.model) if source == BASE else None
    if isinstance(place, str):
        commit = commit_of(place, config.model.revision, "model")
        config = config.model_copy(
            update={"model": config.model.model_copy(update={"revision": commit or config.model.revision})}
        )
    if config.algorithm is not None:
        config = config.model_copy(update={"algorithm": config.algorithm.located()})
    assert config.stage is not None
    config = config.model_copy(update={"stage": config.stage.located(config)})
    assert config.stage is not None
    return config if data_from else config.stage.pinned(config)


def _data_key(config: StepConfig, inputs: dict[str, str], keys: dict[str, str], step: str) -> str:
    """Return what stands for the data in the step's key: their hash, with the keys of the steps that make some of them."""
    assert config.stage is not None
    made = {name: _key_of(name, keys, step) for name in sorted(config.stage.artifacts(config))}
    return hash_of([inputs["dataset"], made]) if made else inputs["dataset"]


def _reads(config: StepConfig, source: str, data_from: str | None) -> tuple[str, ...]:
    assert config.stage is not None
    named: frozenset[str | None] = names_in(config.deciding_settings())
    named |= {data_from, source if config.loads_model else None}
    named |= config.stage.artifacts(config) if data_from is None else frozenset()
    return tuple(sorted(name for name in named if name is not None and name != BASE))


def _numerics(config: StepConfig, batch: Batch | None, device: Device) -> dict[str, int | bool | str | None]:
    """Return what shifts the last digits of a step's result and is no part of what the step is."""
    found = config.launcher.numerics(device)
    if batch is not None:
        found |= {
            "rows per forward pass": batch.rows_per_device,
            "model.gradient_checkpointing": config.trainer.get(
                "gradient_checkpointing", config.model.gradient_checkpointing
            ),
        }
    if batch is not None or config.generates:
        found["model.attn_implementation"] = config.model.attn_implementation
    return found


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


def targets_of(override: Override, steps: Sequence[PlannedStep]) -> list[str]:
    """Return the names of the steps that a typed override applies to."""
    return [step.name for step in steps if override in step.composed.typed]
