"""Says which steps of a plan are finished already, which run and why, and leaves out those that are not to run.

A step runs because no finished step has its key. Where an earlier step of that name is in the store, the reason is what
differs between the two: settings, inputs, versions, or a step that it reads.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1exp.config.experiment import Experiment
from r1exp.config.overrides import flat
from r1exp.errors import Refused
from r1exp.files import read_json_object
from r1exp.paths import RunPaths, StorePaths
from r1exp.plan.durations import Durations, EarlierStep
from r1exp.plan.step_range import StepRange
from r1exp.plan.steps import PlannedStep
from r1exp.stage.config import StepConfig
from r1exp.step.executions import executions
from r1exp.step.status import is_finished

_MOST_NAMED = 3  # differences of a step that are written out
_LONGEST = 30  # characters of a value
_NO_SETTINGS = "r1exp or a library is another version"
_OUTSIDE = ("name",)  # no setting of the step


def within(
    steps: tuple[PlannedStep, ...], span: StepRange, experiment: Experiment, *, is_compared: bool = False
) -> tuple[PlannedStep, ...]:
    """Return the steps, of which those outside of a range are marked: they are taken where they are finished, and not run.

    Args:
        steps: All planned steps of a run.
        span: The steps that may run.
        experiment: The composed experiment.
        is_compared: Whether it is a member of a sweep, which reuses no step with other numerics.

    Raises:
        Refused: the range names no step, or a step outside of it would have to run first.
    """
    if span.is_whole:
        return steps
    may_run = span.positions(steps)
    marked = tuple(
        step if position in may_run else step.model_copy(update={"runs": False})
        for position, step in enumerate(steps)
    )
    finished = _Finished(experiment, is_compared)
    missing = [
        (earlier, reader)
        for earlier in marked
        for reader in marked
        if not earlier.runs and reader.runs and earlier.name in reader.reads
        if not finished.has(earlier) and not finished.has(reader)
    ]
    if missing:
        _refuse(missing, marked, span, experiment)
    return marked


def _refuse(
    missing: Sequence[tuple[PlannedStep, PlannedStep]],
    steps: Sequence[PlannedStep],
    span: StepRange,
    experiment: Experiment,
) -> None:
    names = list(dict.fromkeys(earlier.name for earlier, _ in missing))
    earlier, reader = missing[0]
    last = "" if span.last is None else f" --until {span.last}"
    store = experiment.run.paths.store
    # What that step reads may be missing too; the first of them all is where a run has to start.
    wanted, start = {earlier.name}, earlier
    for step in reversed(steps[: steps.index(earlier) + 1]):
        if step.name in wanted and not step.runs:
            wanted |= set(step.reads)
            start = step
    raise Refused(
        f"step {reader.name} reads {' and '.join(names)}, which {span.text} leaves out, and with these settings "
        f"{'it is' if len(names) == 1 else 'they are'} not finished (neither in the store {store} nor in the run directory); "
        f"type --from {start.belongs_to}{last}, or the settings with which {earlier.name} was finished"
    )


class _Finished:
    """Knows which steps are finished in the store, in the run directory, or in that of a run that could not share them."""

    def __init__(self, experiment: Experiment, is_compared: bool) -> None:
        self._store = StorePaths(Path(experiment.run.paths.store))
        self._run = None if experiment.run.paths.run is None else Path(experiment.run.paths.run)
        self._durations = Durations(self._store.folder, is_compared=is_compared)

    def has(self, step: PlannedStep) -> bool:
        """Return whether a run could take the step instead of executing it."""
        own = None if self._run is None else step.paths(self._run)
        places = [*self._durations.reusable(step), *executions(self._store.working_directory(step.slot))]
        if own is not None and read_json_object(own.step).get("key") == step.key:
            places.append(own.folder)
        return any(is_finished(place) for place in places)


@dataclass(frozen=True)
class Reason:
    """Why a step runs although one of its name is finished."""

    step: str
    text: str


def reasons(steps: Sequence[PlannedStep], durations: Durations) -> Iterator[Reason]:
    """Yield why each step runs, of those of which an earlier one of the same name and stage is in the store.

    Args:
        steps: The planned steps of a run.
        durations: The steps of the store.
    """
    running: list[str] = []
    for step in steps:
        found = durations.of(step)
        if not step.runs or (found is not None and found.is_reused):
            continue
        again = [name for name in step.reads if name in running]
        running.append(step.name)
        earlier = [other for other in durations.earlier() if _is_same_kind(step, other)]
        if not earlier or any(
            other.key == step.key for other in earlier
        ):  # of that, the numerics (Durations.notes)
            continue
        lists = [(_differences(step, other), other) for other in earlier]
        changed, nearest = min(lists, key=lambda pair: len(pair[0]))
        shown = changed[:_MOST_NAMED]
        shown += [f"and {len(changed) - len(shown)} more"] if len(changed) > len(shown) else []
        shown += [f"reads {' and '.join(again)}"] if again else []
        yield Reason(step.name, f"{', '.join(shown) or _NO_SETTINGS} (compared with {nearest.run})")


def _is_same_kind(step: PlannedStep, other: EarlierStep) -> bool:
    ours, theirs = step.config.stage, other.config.stage
    return other.name == step.name and ours is not None and theirs is not None and ours.kind == theirs.kind


def _differences(step: PlannedStep, other: EarlierStep) -> list[str]:
    ours, theirs = (_deciding(config) for config in (step.config, other.config))
    found = [
        f"{key} {_short(ours.get(key))}, was {_short(theirs.get(key))}"
        for key in {**theirs, **ours}
        if ours.get(key) != theirs.get(key)
    ]
    inputs = _inputs(other)
    changed = [name for name, content in step.inputs.items() if inputs.get(name, content) != content]
    return found + [f"the content of {name} changed" for name in changed]


def _deciding(config: StepConfig) -> Mapping[str, Any]:
    """Return the settings that decide a step's result, without paths, which count with their content."""
    values = flat(config.deciding_settings())
    return {key: value for key, value in values.items() if not key.endswith("path") and key not in _OUTSIDE}


def _inputs(other: EarlierStep) -> dict[str, str]:
    """Return what an earlier step read from outside of its run, as the plan of that run says; empty where it is gone."""
    for folder in reversed(executions(other.where)):
        steps = read_json_object(RunPaths(folder.parents[1]).plan).get("steps", ())
        for step in steps:
            if step.get("name") == other.name:
                return dict(step.get("inputs", {}))
    return {}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
