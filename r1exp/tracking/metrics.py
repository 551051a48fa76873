"""Reads and writes metrics.jsonl: one JSON object per logged row, under the trainer's names, with `step`.

JSON has no NaN and no infinity. Such a value is written as null, and `not_finite` holds the original:
`{"step": 7, "loss": null, "not_finite": {"loss": "nan"}}`.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1exp.files import write_text


class MetricsFile:
    """The metrics.jsonl of one step."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Append a row; it is in the file when this returns."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def forget_after(self, step: int) -> None:
        """Remove what a resumed step will write again: the rows after `step`, and the trainer's last row, its summary."""
        rows = [row for row in self.rows() if row["step"] <= step and "train_runtime" not in row]
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))

    def last_step(self) -> int:
        """Return the last optimizer step that has a row; -1 without rows."""
        return max((int(row["step"]) for row in self.rows()), default=-1)

    def rows(self) -> list[dict[str, Any]]:
        """Return the complete rows, up to the first that a crash or a power cut damaged.

        Rows before the last checkpoint are on the disk; a resumed step writes those after it again.
        """
        if not self._path.exists():
            return []
        rows: list[dict[str, Any]] = []
        for line in self._path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
            try:
                row = json.loads(line) if line else None
            except ValueError:
                break
            if isinstance(row, dict) and "step" in row:
                rows.append(row)
        return rows


def loggable(logs: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return the numbers of a trainer's log as a row: `step` first, NaN and infinities as None."""
    row: dict[str, Any] = {"step": step}
    not_finite: dict[str, str] = {}
    for key, value in logs.items():
        if isinstance(value, float) and not math.isfinite(value):
            not_finite[key] = str(float(value))
        if isinstance(value, bool | int | float) or value is None:
            row[key] = None if key in not_finite else value
    return {**row, "not_finite": not_finite} if not_finite else row
