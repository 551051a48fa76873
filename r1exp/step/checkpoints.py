"""Finds the complete checkpoints of a step, and refuses those of another experiment.

A complete checkpoint has a mark, which is written after everything else:

    <step>/checkpoints/checkpoint-50/complete.json
    {"key": ..., "global_step": 50, "data": ..., "tracking_id": ..., "settings": {...}}

`key` is the hash of what decides the step's result, `data` the fingerprint of its data, `tracking_id` the
W&B run that is continued, `settings` the settings in the key, so that a refusal can name what differs.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from pydantic import PositiveInt, ValidationError

from r1exp.errors import Refused
from r1exp.files import write_text
from r1exp.paths import StepPaths
from r1exp.settings import Name, Settings

_MARK = "complete.json"
_NUM_LISTED = 3  # differing settings that a refusal lists


class Owner(Protocol):
    """A step, as far as its checkpoints are concerned."""

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
    tracking_id: Name | None  # W&B id; None without W&B
    settings: dict[str, Any]  # the step's settings that decide its result


def mark_complete(checkpoint: Path, step: Owner, num_steps: int, tracking_id: str | None) -> None:
    """Mark `checkpoint` as complete, after everything in it is written."""
    settings = step.deciding_settings()
    mark = Mark(
        key=step.key, global_step=num_steps, data=step.data, tracking_id=tracking_id, settings=settings
    )
    write_text(checkpoint / _MARK, mark.model_dump_json(indent=2) + "\n")


def checkpoints(step_folder: Path) -> list[Path]:
    """Return the complete checkpoints of a step, oldest first."""
    found = [path.parent for path in StepPaths(step_folder).checkpoints.glob(f"checkpoint-*/{_MARK}")]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def last_checkpoint(step_folder: Path) -> Path | None:
    """Return the newest complete checkpoint, or None."""
    found = checkpoints(step_folder)
    return found[-1] if found else None


def remove_incomplete(step_folder: Path) -> None:
    """Delete checkpoints that a crash left incomplete."""
    for path in StepPaths(step_folder).checkpoints.glob("checkpoint-*"):
        if not (path / _MARK).exists():
            shutil.rmtree(path)


def mark_of(checkpoint: Path, step: Owner) -> Mark:
    """Return the mark of a checkpoint that `step` may continue from.

    Raises:
        Refused: it belongs to another experiment; the message says what differs.
    """
    try:
        mark = Mark.model_validate_json((checkpoint / _MARK).read_text(encoding="utf-8"), strict=True)
    except ValidationError as error:
        raise Refused(
            f"{checkpoint / _MARK} was not written by this version of r1exp; {_way_out(checkpoint)}"
        ) from error
    if (mark.key, mark.data) == (step.key, step.data):
        return mark
    raise Refused(
        f"{checkpoint} belongs to another experiment: {_difference(mark, step)}; {_way_out(checkpoint)}"
    )


def _way_out(checkpoint: Path) -> str:
    return f"to begin anew, type: rm -r '{checkpoint.parent}'; to go on with it, type its own command again"


def _difference(mark: Mark, step: Owner) -> str:
    """Return the first things that differ; where all settings are the same, it is data or the start model."""
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
