"""Forks a run: `r1exp fork RUN@STEP KEY=VALUE` continues a checkpoint of a run with changed settings.

    <run>/fork/forked-plan.json                 the plan of the run that was forked
    <run>/fork/checkpoints/checkpoint-<n>/      the checkpoint, as hard links
    <run>/fork/metrics.jsonl, completions/      what was logged until then

With these a fork is complete by itself as soon as it has started: the run that was forked may be deleted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from r1exp.config.compose import parsed
from r1exp.config.overrides import Override, quote
from r1exp.config.targets import RUN_ONLY, TRAINING
from r1exp.errors import Refused
from r1exp.files import copy_file, link_tree, whole_folder
from r1exp.paths import RunPaths, StepPaths, StorePaths
from r1exp.plan.fork import Parent, find_parent, parent_of
from r1exp.plan.members import command_of, members_of
from r1exp.plan.run_plan import RunPlan, has_plan
from r1exp.runner.store import StepStore, continue_from
from r1exp.step.checkpoints import damage_of, last_checkpoint
from r1exp.step.status import is_finished

_OF_THE_RUN = ("fork", "hydra", "sweep")  # heads of overrides that a fork has of its own


def keep_origin(plan: RunPlan, run: Path) -> None:
    """Link what a fork begins with into its run directory, unless it is there, and share the earlier steps of its parent.

    Args:
        plan: Of the fork; of a run that is none, nothing happens.
        run: Its directory.

    Raises:
        Refused: the checkpoint is damaged.
    """
    own = RunPaths(run)
    if plan.config.fork.run is None or own.fork_plan.is_file():
        return
    parent = parent_of(plan.config)
    assert parent is not None
    damage = damage_of(parent.checkpoint)
    if damage is not None:
        raise Refused(f"{parent.checkpoint} is damaged: {damage}; fork after another optimizer step")
    _share_earlier_steps(plan, parent)
    source = StepPaths(parent.checkpoint.parents[1])
    own.folder.mkdir(parents=True, exist_ok=True)
    with whole_folder(own.fork.folder, replaces=True) as unfinished:
        target = StepPaths(unfinished)
        target.checkpoints.mkdir()
        for log in source.continued_files():
            copy = unfinished / log.relative_to(source.folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy_file(log, copy)
        link_tree(parent.checkpoint, target.checkpoints / parent.checkpoint.name)
        copy_file(RunPaths(parent.run).plan, unfinished / own.fork_plan.name)


def begin_with_origin(run: Path, step_folder: Path) -> None:
    """Link the checkpoint that a fork begins with into the folder of its step, which has no checkpoint of its own yet.

    Raises:
        Refused: that checkpoint is damaged.
    """
    if last_checkpoint(step_folder) is not None:
        return
    origin = RunPaths(run).fork.folder
    checkpoint = last_checkpoint(origin)
    damage = "it is missing" if checkpoint is None else damage_of(checkpoint)
    if damage is not None:
        raise Refused(
            f"the checkpoint in {origin}, which this fork begins with, cannot be used: {damage}; fork the run again"
        )
    continue_from(origin, step_folder)


def _share_earlier_steps(plan: RunPlan, parent: Parent) -> None:
    """Make the steps before the forked one available under their keys, as their run has them."""
    store = StepStore(Path(plan.config.paths.store))
    theirs = {step.name: step for step in parent.plan.steps}
    for step in plan.steps:
        if step.fork is not None:
            return
        other = theirs.get(step.name)
        if other is None or other.key != step.key:
            continue
        folder = other.paths(parent.run).folder
        if is_finished(folder):
            store.publish(parent.plan.slot(other, parent.run), folder)


@dataclass(frozen=True)
class Target:
    """A checkpoint as it is typed: RUN@STEP, or RUN/NAME@STEP."""

    run: Path
    step: str | None  # None: the focus step
    at: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the checkpoint that `text` names.

        Raises:
            Refused: it names none.
        """
        place, _, number = text.rpartition("@")
        if not number.isdecimal() or int(number) == 0:
            raise Refused(
                f"{text}: after @ come the optimizer steps that the checkpoint has taken, from 1: {place}@50"
            )
        run = Path(place).expanduser().resolve()
        if not has_plan(run) and has_plan(run.parent):
            return cls(run.parent, run.name, int(number))
        return cls(run, None, int(number))

    def parent(self) -> Parent:
        """Return the step and its checkpoint."""
        return find_parent(self.run, self.step, self.at)


def command_of_fork(parent: Parent, changes: Sequence[str], *, is_multirun: bool = False) -> list[str]:
    """Return the command line of a fork: that of its run, the checkpoint, and the changes, for the forked step alone.

    Args:
        parent: The step that is forked.
        changes: Overrides as typed, some of which may list several values.
        is_multirun: Whether -m was typed.
    """
    plan, name = parent.plan, parent.step.name
    is_pipeline = plan.config.pipeline is not None
    typed = parsed(changes)
    own = [_for_step(each, name, plan) if is_pipeline else each.text for each in typed]
    replaced = {each.key for each in parsed(own)}
    replaced |= {f"pipeline.steps.{name}.{place}.{each.key}" for each in typed for place in ("set", "use")}
    kept = [
        each
        for each in parsed(plan.overrides)
        if each.key not in replaced and each.head not in _OF_THE_RUN and each.key != "paths.run"
    ]
    is_of_sweep = any(
        each.head == "sweeps" for each in kept
    )  # its file asks for a multirun, and this is one member
    mode = ["hydra.mode=RUN"] if is_of_sweep and not is_multirun else []
    chosen = {"run": quote(str(parent.run)), "step": quote(name), "at": str(parent.at)}
    return [
        *(each.text for each in kept),
        *mode,
        *(f"fork.{key}={value}" for key, value in chosen.items()),
        *own,
    ]


def _for_step(change: Override, name: str, plan: RunPlan) -> str:
    """Return a change that applies to the forked step alone."""
    is_general = change.head in (*RUN_ONLY, "tracking", "launcher")
    if is_general or (change.head in TRAINING and name == plan.focus):
        return change.text
    place = "use" if change.is_group else "set"
    return f"{change.sign}pipeline.steps.{name}.{place}.{change.text.removeprefix(change.sign)}"


def preview(commands: Sequence[Sequence[str]], *, is_multirun: bool) -> str:
    """Return for each fork of some command lines: its checkpoint, what changes, and whether it is finished already."""
    lines: list[tuple[str, str]] = []  # run that is forked, line
    for arguments in commands:
        for member in members_of(command_of(arguments, is_multirun)):
            step = next(step for step in member.steps if step.fork is not None)
            assert step.fork is not None
            if not lines or lines[-1][0] != step.fork.run:
                lines.append(
                    (
                        step.fork.run,
                        f"{step.fork.run}/{step.name}@{step.fork.at} (checkpoint {step.fork.checkpoint})",
                    )
                )
            stored = StorePaths(Path(member.experiment.run.paths.store)).steps / step.slot
            done = "; finished already" if is_finished(stored) else ""
            lines.append((step.fork.run, f"  {step.fork.text()}{done}"))
    return "\n".join(text for _, text in lines)
