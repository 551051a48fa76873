"""Plans a fork: a step that begins with a checkpoint of another run's step, with changed settings.

The key of a forked step is a function of the other step's key, the optimizer step, and what is planned now:

    key = hash(key of the parent's step, optimizer step, key that the step would have as a whole run)

Without a change the last of these is the first: the fork is the parent's own step, and has its key. What a checkpoint contains
must have the same shape, and the position in the data must mean the same prompts; everything else may change.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from r1exp.config.experiment import RunConfig
from r1exp.config.overrides import flat
from r1exp.errors import Refused
from r1exp.files import hash_of
from r1exp.paths import CheckpointPaths, RunPaths, StorePaths
from r1exp.plan.batch import RlBatch
from r1exp.plan.run_plan import PlanStep, RunPlan, has_plan, read_plan, read_plan_file
from r1exp.stage.config import StepConfig
from r1exp.step.checkpoints import Mark, checkpoints, content_of, read_mark
from r1exp.step.executions import executions
from r1exp.step.fork import ForkOrigin
from r1exp.step.status import is_finished

Planned = TypeVar("Planned", bound=PlanStep)
_OTHER_MODEL = "the checkpoint has the weights and the optimizer's state of another model"
_OTHER_PROMPTS = (
    "the place in the data that the checkpoint has would mean other prompts than those of the run"
)
_OTHER_STATE = "the checkpoint has the state of another trainer"
_OTHER_NUMBERS = "another engine draws other random numbers, and the completions have nothing in common"
# Settings that may not change -> why; a key that ends with a dot stands for all below it.
_FIXED = {
    "model.": _OTHER_MODEL,
    "dataset.": _OTHER_PROMPTS,
    "prompt.": _OTHER_PROMPTS,
    "stage.": _OTHER_PROMPTS,
    "rollout.kind": _OTHER_NUMBERS,
    "rollout.staleness": "completions that were sampled ahead are not in the checkpoint",
    "rollout.seed_each_batch": "the unchanged control would have other random numbers than the run; start the run with it",
    "algorithm.prompts_per_step": _OTHER_PROMPTS,
    "algorithm.minibatches": _OTHER_PROMPTS,
    "algorithm.critic.": "the checkpoint has the state of the critic",
    "algorithm.rest_steps": _OTHER_PROMPTS,
    "algorithm.resampling_rounds": _OTHER_PROMPTS,
    "trainer.num_iterations": _OTHER_PROMPTS,
    "trainer.optim": "the checkpoint has the state of another optimizer",
    "trainer.optim_args": "the checkpoint has the state of another optimizer",
    "trainer.data_seed": _OTHER_PROMPTS,
    "trainer.packing": _OTHER_PROMPTS,
    "trainer.max_length": _OTHER_PROMPTS,
    "trainer.shuffle_dataset": _OTHER_PROMPTS,
    "launcher.kind": "the launcher decides which files a checkpoint has",
    "launcher.num_processes": "each rank has its own random numbers and its share of the prompts in the checkpoint",
    "launcher.num_nodes": "each rank has its own random numbers and its share of the prompts in the checkpoint",
}
_FREE = ("model.rows_per_device.", "model.gradient_checkpointing")  # they shift last digits only
_OF_THE_OPTIMIZER = ("learning_rate", "trainer.weight_decay", "trainer.adam_")
# Settings of where and how a step runs; that they differ is no change of the fork.
_OUTSIDE = ("tracking", "launcher", "completions", "debug", "evaluation", *_FREE)


@dataclass(frozen=True)
class Parent:
    """The step that is forked, in the plan of its run."""

    run: Path
    plan: RunPlan
    step: PlanStep
    at: int  # optimizer steps
    checkpoint: Path
    mark: Mark
    is_kept: bool  # by the fork itself, which has started


def parent_of(run: RunConfig) -> Parent | None:
    """Return the step that a run forks; None where it forks none.

    Raises:
        Refused: there is no such run, step or checkpoint.
    """
    fork = run.fork
    if fork.run is None or fork.step is None or fork.at is None:
        return None
    own = None if run.paths.run is None else RunPaths(Path(run.paths.run))
    kept = own if own is not None and own.fork_plan.is_file() else None
    return find_parent(Path(fork.run), fork.step, fork.at, kept)


def find_parent(run: Path, name: str | None, at: int, fork: RunPaths | None = None) -> Parent:
    """Return a step of a run and its checkpoint after `at` optimizer steps.

    Args:
        run: Its directory.
        name: Name of the step; None: the focus step.
        at: Optimizer steps.
        fork: A run that has begun as a fork of that checkpoint, and so has it itself; None: none.

    Raises:
        Refused: there is no such run, step or checkpoint; the message says which checkpoints there are.
    """
    if fork is None and not has_plan(run):
        raise Refused(f"{run} is not the directory of a run: it has no plan.json; `r1exp runs` lists them")
    plan = read_plan(run) if fork is None else read_plan_file(fork.fork_plan)
    step = plan.step_named(name or plan.focus)
    if step.batch is None:
        trained = [each.name for each in plan.steps if each.batch is not None]
        raise Refused(
            f"step {step.name} of {run} trains nothing, so it has no checkpoints; its steps that train are "
            f"{', '.join(trained) or 'none'}"
        )
    found = dict(_checkpoints_in(_folders_of(run, plan, step) if fork is None else [fork.fork.folder], step))
    if at in found:
        checkpoint, mark = found[at]
        return Parent(run, plan, step, at, checkpoint, mark, fork is not None)
    word = f"{run}/{step.name}" if name else str(run)
    there = ", ".join(f"{word}@{number}" for number in sorted(found))
    more = "in the command of the run, trainer.save_steps=N saves more often and trainer.save_total_limit=null keeps all"
    raise Refused(
        f"step {step.name} of {run} has no checkpoint after {at} optimizer steps; "
        + (f"there are {there}; {more}" if found else f"it has none at all; {more}")
    )


def _folders_of(run: Path, plan: RunPlan, step: PlanStep) -> list[Path]:
    """Return the folders in which a step was executed: its own last, and before it those of runs that it was reused from."""
    store = StorePaths(Path(plan.working_directory) / plan.config.paths.store)
    slot = plan.slot(step, run)
    return [*executions(store.working_directory(slot)), RunPaths(run).fork.folder, step.paths(run).folder]


def _checkpoints_in(folders: Sequence[Path], step: PlanStep) -> Iterator[tuple[int, tuple[Path, Mark]]]:
    """Yield optimizer step -> checkpoint of a step, with its mark."""
    for folder in folders:
        for checkpoint in checkpoints(folder):
            mark = read_mark(checkpoint)
            if mark is not None and mark.key == step.key:
                yield CheckpointPaths(checkpoint).global_step, (checkpoint, mark)


def forked(step: Planned, parent: Parent, keys: Mapping[str, str]) -> Planned:
    """Return a planned step as a fork of its parent.

    Args:
        step: As it would be planned for a whole run.
        parent: The step that it continues.
        keys: The keys of the earlier steps of this run.

    Raises:
        Refused: the checkpoint cannot be continued with these settings.
    """
    changes = changes_of(parent.step.config, step.config)
    _refuse_other_trainer(step, parent)
    _refuse_fixed(changes, parent)
    _refuse_other_reads(step, parent, keys)
    _refuse_other_batch(step, parent)
    if step.config.max_steps is not None and step.config.max_steps <= parent.at:
        raise Refused(
            f"max_steps={step.config.max_steps}: the checkpoint has taken {parent.at} optimizer steps already; max_steps counts "
            f"from the start of the run, so type a larger one"
        )
    if step.config.launcher.zero_stage:
        optimizer = next((key for key in changes if key.startswith(_OF_THE_OPTIMIZER)), None)
        if optimizer is not None:
            raise Refused(
                f"{optimizer}: DeepSpeed restores the settings of its optimizer with its state, so that the change would have no "
                "effect; fork a run of launcher=ddp or launcher=fsdp2"
            )
    origin = ForkOrigin(
        run=str(parent.run),
        step=parent.step.name,
        at=parent.at,
        key=parent.step.key,
        checkpoint=content_of(parent.mark),
        changes={key: pair for key, pair in changes.items() if not key.startswith(_OUTSIDE)},
    )
    is_unchanged = step.key == parent.step.key
    key = step.key if is_unchanged else hash_of([parent.step.key, parent.at, step.key])
    return step.model_copy(update={"key": key, "fork": origin})


def of_parent(step: Planned, parent: Parent, keys: Mapping[str, str]) -> Planned:
    """Return a step of a fork's run; one before the forked step is its parent's, whatever version of r1exp made it.

    Args:
        step: As it would be planned for a whole run.
        parent: The step that is forked.
        keys: The keys of the earlier steps of this run.
    """
    before = [each for each in parent.plan.steps if each.index < parent.step.index]
    theirs = next((each for each in before if each.name == step.name), None)
    if theirs is None or (theirs.data, theirs.inputs) != (step.data, step.inputs):
        return step
    reads = {each.name: each.key for each in before}
    is_same = all(keys.get(name) == reads.get(name) for name in step.reads)
    if not is_same or theirs.config.deciding_settings() != step.config.deciding_settings():
        return step
    is_there = parent.is_kept or is_finished(theirs.paths(parent.run).folder)
    return step.model_copy(update={"key": theirs.key}) if is_there else step


def changes_of(there: StepConfig, here: StepConfig) -> dict[str, tuple[Any, Any]]:
    """Return dotted key -> value there, value here, of every setting that differs."""
    theirs, ours = (flat(config.model_dump(mode="json")) for config in (there, here))
    return {
        key: (theirs.get(key), ours.get(key))
        for key in {**theirs, **ours}
        if theirs.get(key) != ours.get(key)
    }


def _refuse_fixed(changes: Mapping[str, tuple[Any, Any]], parent: Parent) -> None:
    for key, (was, now) in changes.items():
        if key.startswith(_FREE):
            continue
        why = next(
            (
                why
                for fixed, why in _FIXED.items()
                if key == fixed or (fixed.endswith(".") and key.startswith(fixed))
            ),
            None,
        )
        if why is not None:
            raise Refused(
                f"{key} {now} (was {was}) cannot change in a fork of {parent.run}@{parent.at}: {why}; start a whole run with it"
            )


def _refuse_other_trainer(step: PlanStep, parent: Parent) -> None:
    """Raise Refused if the algorithm has another trainer, whose state has other parts."""
    ours, theirs = step.config.algorithm, parent.step.config.algorithm
    if ours is not None and theirs is not None and ours.trainer != theirs.trainer:
        raise Refused(
            f"algorithm={ours.kind} (was {theirs.kind}) cannot change in a fork of {parent.run}@{parent.at}: {_OTHER_STATE}; start a "
            "whole run with it"
        )


def _refuse_other_reads(step: PlanStep, parent: Parent, keys: Mapping[str, str]) -> None:
    """Raise Refused if the step reads another model or other data than its parent did."""
    if step.data != parent.step.data:
        raise Refused(
            f"the data of step {step.name} are not those of {parent.run}: {_OTHER_PROMPTS}; start a whole run"
        )
    theirs = {each.name: each.key for each in parent.plan.steps}
    for name in step.reads:
        if keys.get(name) != theirs.get(name):
            raise Refused(
                f"step {name}, which step {step.name} reads, is not the one of {parent.run}: its settings or its data differ, or it "
                "is not finished there; start a whole run"
            )
    if step.model_from != parent.step.model_from:
        raise Refused(f"step {step.name} starts from another model than that of {parent.run}: {_OTHER_MODEL}")


def _refuse_other_batch(step: PlanStep, parent: Parent) -> None:
    """Raise Refused if the optimizer steps until the checkpoint would have used up other prompts, or other ranks computed them."""
    ours, theirs = step.batch, parent.step.batch
    assert ours is not None and theirs is not None
    if isinstance(ours, RlBatch) and isinstance(theirs, RlBatch):
        pairs = [
            ("ranks", theirs.world_size, ours.world_size),
            ("prompts per optimizer step", theirs.prompts_per_step, ours.prompts_per_step),
            ("prompts sampled at once", theirs.prompts_per_generation, ours.prompts_per_generation),
            ("optimizer steps per generation batch", theirs.updates_per_batch, ours.updates_per_batch),
        ]
        shapes = [(each.num_generations, each.rows_per_device) for each in (theirs, ours)]
        if shapes[0] != shapes[1] and parent.at % ours.updates_per_batch:
            raise Refused(
                f"{shapes[1][0]} completions of a prompt, {shapes[1][1]} at once, instead of {shapes[0][0]} and {shapes[0][1]}: the "
                f"checkpoint after {parent.at} optimizer steps lies within a generation batch, which is cut so already; fork after a "
                f"multiple of {ours.updates_per_batch}"
            )
    else:
        pairs = [
            ("ranks", theirs.world_size, ours.world_size),
            ("rows per optimizer step", theirs.rows_per_step, ours.rows_per_step),
        ]
    held_out = [_num_held_out(each.config) for each in (parent.step, step)]
    for what, there, here in [*pairs, ("problems held out for validation", *held_out)]:
        if there != here:
            raise Refused(
                f"{here} {what} (were {there}) cannot change in a fork of {parent.run}@{parent.at}: {_OTHER_PROMPTS}; start a whole "
                "run with it"
            )


def _num_held_out(config: StepConfig) -> int:
    assert config.stage is not None
    return config.stage.num_validation(config)
