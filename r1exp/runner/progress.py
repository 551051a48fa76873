"""Shows the progress of a step: as a bar on a terminal, as a line every few seconds elsewhere.

The parent reads the step's metrics.jsonl, so that it works wherever the workers run.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

_SHOWN = {"reward": "reward", "kl": "kl", "loss": "loss", "mean_token_accuracy": "token acc"}
_LINE_EVERY = 15.0  # seconds between lines if there is no terminal


class Progress:
    """Shows the progress of one step."""

    def __init__(
        self, title: str, metrics: Path, num_steps: int | None, stream: TextIO | None = None
    ) -> None:
        """Start to show progress.

        Args:
            title: Title of the step.
            metrics: metrics.jsonl of the step; need not exist yet.
            num_steps: Optimizer steps; None for a step without them.
            stream: Where to write; a terminal gets a bar, other streams get lines. None: standard error.
        """
        self._title, self._metrics, self._num_steps = title, metrics, num_steps
        self._stream = sys.stderr if stream is None else stream
        self._file, self._offset = 0, 0  # inode of the file, and bytes of it that have been read
        self._row: dict[str, Any] = {}
        self._last_line = self._begun = time.monotonic()
        self._bar = None
        if self._stream.isatty():
            self._bar = tqdm(total=num_steps, desc=title, file=self._stream, leave=False)

    def follow(self) -> None:
        """Read new rows and show them."""
        for row in self._new_rows():
            self._row |= row
        step = int(self._row.get("step", 0))
        numbers = self._numbers()
        if self._bar is not None:
            self._bar.n = step
            self._bar.set_postfix_str(numbers, refresh=False)
            self._bar.refresh()
        elif time.monotonic() - self._last_line >= _LINE_EVERY and step:
            self._last_line = time.monotonic()
            self._stream.write(f"{self._title}: {step}/{self._num_steps} {numbers}{self._time_left(step)}\n")
            self._stream.flush()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def _new_rows(self) -> list[dict[str, Any]]:
        if not self._metrics.exists():
            return []
        with self._metrics.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            if inode != self._file:  # the file was replaced, because a resumed step dropped rows
                self._file, self._offset = inode, 0
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]

    def _numbers(self) -> str:
        known = ((short, self._row.get(key)) for key, short in _SHOWN.items())
        return " ".join(f"{short} {value:.3f}" for short, value in known if isinstance(value, float | int))

    def _time_left(self, step: int) -> str:
        if not self._num_steps:
            return ""
        spent = time.monotonic() - self._begun
        return f", about {spent / step * (self._num_steps - step):.0f} s left"
