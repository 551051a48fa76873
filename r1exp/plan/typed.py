"""Lists what was typed, the steps that it applies to, and what applied before.

`was` is the value that the step would have without that override, everything else being equal: of a group the option
that a file or the pipeline chooses, of a value what the files set. Nothing is composed again.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.default_element import GroupDefault
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from r1exp.config.compose import Composition, content_of
from r1exp.config.experiment import ComposedStep, Experiment
from r1exp.config.origin import contents
from r1exp.config.overrides import Override
from r1exp.config.targets import NAMED
from r1exp.plan.steps import PlannedStep, targets_of

NOTHING = "-"
ROOT = "config.yaml"


@dataclass(frozen=True)
class TypedRow:
    """One override."""

    text: str  # as typed
    targets: tuple[str, ...]  # names of the steps that it applies to; empty: the run as a whole
    was: str


def typed_rows(experiment: Experiment, steps: Sequence[PlannedStep], texts: Sequence[str]) -> list[TypedRow]:
    """Return a row for each of `texts`, overrides that were typed. Needs a session."""
    by_text = {override.text: override for step in steps for override in step.composed.typed}
    of_run = {override.text: override for override in experiment.overrides}
    rows = []
    for text in texts:
        if text in by_text:
            targets = targets_of(by_text[text], steps)
            step = next(step.composed for step in steps if step.name == targets[0])
            rows.append(TypedRow(text, tuple(targets), _was_in_step(by_text[text], step, experiment)))
        else:  # a mapping that sets a step, or what applies to the run as a whole: name, pipeline, paths, ...
            was = _was_in_run(of_run[text], experiment) if text in of_run else NOTHING
            rows.append(TypedRow(text, _set_as_a_whole(text, steps), was))
    return rows


def _set_as_a_whole(text: str, steps: Sequence[PlannedStep]) -> tuple[str, ...]:
    """Return the step that an override `pipeline.steps.NAME={...}`, or of its `use` or `set`, is about."""
    parts = text.partition("=")[0].lstrip("+~").split(".")
    names = {step.name for step in steps}
    return (parts[2],) if parts[:2] == ["pipeline", "steps"] and len(parts) > 2 and parts[2] in names else ()


def _was_in_run(override: Override, experiment: Experiment) -> str:
    if override.is_group:
        return _option_before(override, experiment.composition, experiment, None)
    return _in_files(experiment.composition, override.key)


def _was_in_step(override: Override, step: ComposedStep, experiment: Experiment) -> str:
    if override.is_group:
        return _option_before(override, step.composition, experiment, step.name)
    prefix = f"pipeline.steps.{step.name}.set."
    if override.key.startswith(prefix):
        set_before = _in_files(experiment.composition, override.key)
        if set_before != NOTHING:
            return set_before
    key = override.key.removeprefix(prefix)
    lower = [
        other.value
        for other in step.overrides
        if other.key == key
        and not other.is_group
        and (other.file or other.set_by not in (None, override.key))
    ]
    return lower[-1] if lower else _in_files(step.composition, key)


def _in_files(composition: Composition, key: str) -> str:
    """Return the value of a key in the files of a composition; the last file counts."""
    found: Any = NOTHING
    for _, _, values in contents(composition):
        if key in values:
            found = values[key]
        elif any(name.startswith(f"{key}.") for name in values):
            found = "several values"
    return _resolved(found, composition, key)


def _option_before(
    override: Override, composition: Composition, experiment: Experiment, step: str | None
) -> str:
    """Return the option of a group before: of the files, of the step's `use`, or of the experiment that was chosen."""
    if override.key in NAMED:
        return NOTHING
    option = _in_defaults(override.key, composition)
    steps = {} if experiment.run.pipeline is None else experiment.run.pipeline.steps
    if step in steps:  # and not an evaluation between them, which has no `use` of its own
        option = steps[step].use.get(override.key, option)
    return _in_defaults(override.key, experiment.composition, NAMED) or option or NOTHING


def _in_defaults(group: str, composition: Composition, groups: Collection[str] = ()) -> str | None:
    """Return the option of a group in the defaults lists of a composition's files; the last file counts."""
    found = None
    for defaults in _defaults(composition, groups):
        for default in defaults:
            if isinstance(default, GroupDefault) and (default.group or "").lstrip("/") == group:
                found = None if default.value is None else str(default.value)
    return found


def _defaults(composition: Composition, groups: Collection[str]) -> Iterator[list[Any]]:
    """Yield the defaults list of the root file, unless only some groups are asked for, then of the other files."""
    if not groups:
        yield content_of(ROOT)[0]
    for path, _ in composition.files():
        if path != ROOT and not path.startswith("hydra") and (not groups or path.split("/")[0] in groups):
            yield content_of(path)[0]


def _resolved(value: Any, composition: Composition, key: str) -> str:
    """Return a value of a file as text, with its interpolations resolved as they would be in its place."""
    if value == "???":  # the files require a value
        return NOTHING
    if not isinstance(value, str) or "${" not in value:
        return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    config = composition.config.copy()
    OmegaConf.set_readonly(config, False)
    try:
        OmegaConf.update(config, key, value, force_add=True)
        return str(OmegaConf.select(config, key))
    except OmegaConfBaseException:
        return value
