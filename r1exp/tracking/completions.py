"""Keeps a bounded sample of the completions of a step, as JSON lines that a person can read.

    <step>/completions/step-000010.jsonl  sampled for optimizer step 10: whole groups, spread over the generation batch
    <step>/completions/evaluation.jsonl   of an evaluation: its first problems
    <step>/completions/samples.jsonl      of stage=sample: its first problems
    <step>/completions/answers.jsonl      of stage=generate, spread over the questions

Rank 0 writes them; a file is written whole or not at all. Which optimizer steps have a file depends on the settings and
the planned number of steps only, so that a resumed step writes the files of an uninterrupted one. A folder that cannot
be written (a full disk) is shown as a warning, and the step goes on.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import NonNegativeInt, PositiveInt

from r1exp.files import write_text
from r1exp.paths import StepPaths
from r1exp.settings import Settings
from r1exp.terminal import say

Item = TypeVar("Item")


class CompletionSettings(Settings):
    """How many completions are kept. They change no result, and are no part of a step's key."""

    per_step: (
        NonNegativeInt  # completions of each logged optimizer step, and of each evaluation; 0: none are kept
    )
    max_files: (
        PositiveInt  # files of a step; a step that logs more often keeps every second, third, ... row's
    )
    max_length: PositiveInt  # characters of a text; the middle of a longer one is left out


class CompletionFiles:
    """The folder `completions/` of one step."""

    def __init__(self, settings: CompletionSettings, step_folder: Path) -> None:
        self._settings = settings
        self._paths = StepPaths(step_folder)
        self._has_failed = False

    def is_kept(self, step: int, *, every: int, last: int) -> bool:
        """Return whether an optimizer step has a file.

        Args:
            step: The optimizer step.
            every: Optimizer steps between two logged rows.
            last: The last optimizer step.
        """
        if self._settings.per_step == 0:
            return False
        stride = math.ceil(last / every / max(self._settings.max_files - 2, 1))
        return step == last or (step // every) % stride == 0

    def sample(self, groups: Sequence[Sequence[Item]]) -> list[Item]:
        """Return whole groups, evenly spread, as many as `per_step` allows; the start of one group at least."""
        limit = self._settings.per_step
        if not limit or not groups:
            return []
        number = min(len(groups), max(1, limit // max(len(group) for group in groups)))
        chosen = [groups[len(groups) * index // number] for index in range(number)]
        return [item for group in chosen for item in group][:limit]

    def write_step(self, step: int, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Write the file of an optimizer step, and return its rows as they were written."""
        return self._write(self._paths.completions_at(step), rows)

    def write(self, name: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Write a file of a step without optimizer steps, and return its rows as they were written."""
        return self._write(self._paths.completions / f"{name}.jsonl", rows)

    def forget_after(self, step: int) -> None:
        """Remove the files of optimizer steps after `step`, which a resumed step will write again."""
        for number, path in self._paths.all_completions().items():
            if number > step:
                path.unlink()

    def _write(self, path: Path, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        kept = [_clean(row, self._settings.max_length) for row in rows]
        if kept and not self._has_failed:
            try:
                write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
            except OSError as error:
                self._has_failed = True
                say(f"no completions are kept: {path} cannot be written ({error.strerror})")
        return kept


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row for a table: `{"rewards": {"strict": 1.0}}` becomes `{"rewards/strict": 1.0}`."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}/{name}": part for name, part in value.items()}
        else:
            flat[key] = value
    return flat


def _clean(value: Any, max_length: int) -> Any:
    """Return a value that JSON and UTF-8 can express: numbers that are not finite become None, long texts are cut."""
    if isinstance(value, Mapping):
        return {key: _clean(part, max_length) for key, part in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "replace").decode("utf-8")
    if len(text) <= max_length:
        return text
    half = max_length // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[len(text) - half :]}"
