"""Finds the complete checkpoints of a step, and refuses those of another experiment.

A complete checkpoint has a mark, which is written last:

    <step>/checkpoints/checkpoint-50/complete.json
    {"key": ..., "global_step": 50, "data": ..., "tracking_id": ..., "settings": {...}}

`key` is the hash of what decides the step's result, `data` the fingerprint of its data, `tracking_id` the
identity in trackers that is continued, `settings` the settings in the key, so that a refusal can name what differs.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from pydantic import PositiveInt, ValidationError

from r1exp.errors import Refused
from r1exp.files import write_text
from r1exp.paths import CheckpointPaths, StepPaths
from r1exp.settings import Name, Settings

_NUM_LISTED = 3  # differing settings that a refusal lists


class Owner(Protocol):
    """What a checkpoint needs to know about its step."""

    @property
    def key(self) -> str: ...
    @property
    def data(self) -> str: ...
    def deciding_settings(self) -> dict[str, Any]: ...


class Mark(Settings):
    """The experiment that a checkpoint belongs to."""

    key: Name  # hash of what decides the step's result
    global_step: PositiveInt  # optimizer steps taken
    data: Name  # fingerprint of the data
    tracking_id: Name | None  # identity of the step in trackers; None: no tracker
    settings: dict[str, Any]  # the step's settings that decide its result


def mark_complete(checkpoint: Path, step: Owner, num_steps: int, tracking_id: str | None) -> None:
    """Mark `checkpoint` as complete, after everything in it is written."""
    settings = step.deciding_settings()
    mark = Mark(
        key=step.key, global_step=num_steps, data=step.data, tracking_id=tracking_id, settings=settings
    )
    write_text(CheckpointPaths(checkpoint).mark, mark.model_dump_json(indent=2) + "\n")


def checkpoints(step_folder: Path) -> list[Path]:
    """Return the complete checkpoints of a step, oldest first."""
    return [paths.folder for paths in StepPaths(step_folder).all_checkpoints() if paths.mark.exists()]


def last_checkpoint(step_folder: Path) -> Path | None:
    """Return the newest complete checkpoint, or None."""
    found = checkpoints(step_folder)
    return found[-1] if found else None


def remove_incomplete(step_folder: Path) -> None:
    """Delete checkpoints that a crash left incomplete."""
    for paths in StepPaths(step_folder).all_checkpoints():
        if not paths.mark.exists():
            shutil.rmtree(paths.folder)


def mark_of(checkpoint: Path, step: Owner) -> Mark:
    """Return the mark of a checkpoint that `step` may continue from.

    Raises:
        Refused: it belongs to another experiment; the message states the differences.
    """
    path = CheckpointPaths(checkpoint).mark
    try:
        mark = Mark.model_validate_json(path.read_text(encoding="utf-8"), strict=True)
    except ValidationError as error:
        raise Refused(f"{path} was not written by this version of r1exp; {_advice(checkpoint)}") from error
    if (mark.key, mark.data) == (step.key, step.data):
        return mark
    raise Refused(
        f"{checkpoint} belongs to another experiment: {_difference(mark, step)}; {_advice(checkpoint)}"
    )


def _advice(checkpoint: Path) -> str:
    return f"to start again, type: rm -r '{checkpoint.parent}'; to continue it, type its own command again"


def _difference(mark: Mark, step: Owner) -> str:
    """Return the first differences in data and settings; without any, the start model differs."""
    ours = step.deciding_settings()
    settings = [
        f"{key} is {there!r} there and {here!r} here" for key, there, here in _differing(mark.settings, ours)
    ]
    if mark.data != step.data:
        settings.insert(0, f"its data have the fingerprint {mark.data}, those of this step {step.data}")
    if not settings:
        return "it started from another model"
    more = len(settings) - _NUM_LISTED
    return ", ".join(settings[:_NUM_LISTED]) + (f", and {more} more" if more > 0 else "")


def _differing(there: Any, here: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, value there, value here) for every leaf that differs."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted(there.keys() | here.keys()):
            yield from _differing(there.get(name), here.get(name), f"{key}.{name}" if key else name)
    elif there != here:
        yield key, there, here
