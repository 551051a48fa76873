"""Lists what was typed, the steps that it applies to, and what applied before.

`was` is the value that the step would have without that override, everything else being equal: of a group the option
that a file or the pipeline chooses, of a value what the files set. Nothing is composed again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.default_element import GroupDefault
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from r1exp.config.compose import Composition, content_of
from r1exp.config.experiment import Experiment
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


def typed_rows(
    experiment: Experiment, steps: Sequence[PlannedStep], texts: Sequence[str]
) -> list[TypedRow]:
    """Return a row for each of `texts`, overrides that were typed. Needs a session."""
    by_text = {override.text: override for step in steps for override in step.composed.typed}
    of_run = {override.text: override for override in experiment.overrides}
    rows = []
    for text in texts:
        if text not in by_text:  # applies to the run as a whole: name, pipeline, paths, ...
            was = _was(of_run[text], experiment.composition, experiment.overrides) if text in of_run else NOTHING
            rows.append(TypedRow(text, (), was))
            continue
        override = by_text[text]
        targets = targets_of(override, steps)
        step = next(step.composed for step in steps if step.name == targets[0])
        prefix = f"pipeline.steps.{step.name}.set."
        was = NOTHING
        if override.key.startswith(prefix):  # the value that the pipeline sets, if it does
            was = _in_files(experiment.composition, override.key)
        if was == NOTHING:
            was = _was(override, step.composition, step.overrides, override.key.removeprefix(prefix))
        rows.append(TypedRow(text, tuple(targets), was))
    return rows


def _was(
    override: Override, composition: Composition, overrides: Sequence[Override], key: str | None = None
) -> str:
    """Return what applied before, as it would be typed; `-` if nothing did.

    Args:
        override: The override.
        composition: Composition of the run, or of a step that the override applies to.
        overrides: What it was composed from.
        key: The overridden key in that composition; None: the override's own.
    """
    if override.is_group:
        return _option_before(override, composition, overrides)
    key = key or override.key
    lower = [
        other.value
        for other in overrides
        if other.key == key and not other.is_group and (other.file or other.set_by not in (None, override.key))
    ]
    return lower[-1] if lower else _in_files(composition, key)


def _in_files(composition: Composition, key: str) -> str:
    """Return the value of a key in the files of a composition; the last file counts."""
    found: Any = NOTHING
    for _, _, values in contents(composition):
        if key in values:
            found = values[key]
        elif any(name.startswith(f"{key}.") for name in values):
            found = "several values"
    return _resolved(found, composition, key)


def _option_before(override: Override, composition: Composition, overrides: Sequence[Override]) -> str:
    if override.key in NAMED:
        return NOTHING
    lower = [other.value for other in overrides if other.is_group and other.key == override.key and other != override]
    if lower:
        return lower[-1]
    found = NOTHING
    for defaults in _defaults(composition):
        for default in defaults:
            if isinstance(default, GroupDefault) and (default.group or "").lstrip("/") == override.key:
                found = NOTHING if default.value is None else str(default.value)
    return found


def _defaults(composition: Composition) -> Iterator[list[Any]]:
    """Yield the defaults list of the root file, then of the files that were merged."""
    yield content_of(ROOT)[0]
    for path, _ in composition.files():
        if path != ROOT and not path.startswith("hydra"):
            yield content_of(path)[0]


def _resolved(value: Any, composition: Composition, key: str) -> str:
    """Return a value of a file as text, with its interpolations resolved as they would be in its place."""
    if not isinstance(value, str) or "${" not in value:
        return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    config = composition.config.copy()
    OmegaConf.set_readonly(config, False)
    try:
        OmegaConf.update(config, key, value, force_add=True)
        return str(OmegaConf.select(config, key))
    except OmegaConfBaseException:
        return value
