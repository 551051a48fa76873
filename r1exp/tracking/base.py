"""The interface of trackers: programs that show the metrics of runs beside each other, such as W&B.

A tracker is one class, its settings included. To add one outside r1exp, write the class and name it in a file
`conf/tracking/NAME.yaml`:

    mine:
      kind: package.module:Class
"""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from r1exp.errors import ExitCode, Refused
from r1exp.settings import Settings

Level = Literal["warn", "error"]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class TrackedRun:
    """What is tracked: one step of a run, or the run as a whole."""

    identity: str  # a step that is interrupted and resumed has the same one
    name: str  # shown in the list of runs
    group: str  # shared by the steps of a run, and by the members of a sweep
    job_type: str  # the kind of work: sft, rl, evaluate, ..., or run
    config: Mapping[str, Any]  # every setting
    folder: Path  # the step's folder, in which a tracker may write files


class Tracker(Settings, ABC):
    """Settings of a tracker, and what it does with rows, completions and alerts.

    All methods but `refuse_unready` are called in one thread of the tracker's own, on rank 0. An exception that one of
    them raises is shown as a warning and ends the tracking, not the run. State is kept in private attributes
    (`_client: Any = None`); each step works with a copy of the settings.
    """

    kind: str

    # The module to import and what to type where it is missing; None: nothing to install.
    needs: ClassVar[tuple[str, str] | None] = None

    def refuse_unready(self) -> None:
        """Raise Refused for what is missing on this machine; called before anything starts."""
        if self.needs is not None and importlib.util.find_spec(self.needs[0]) is None:
            raise Refused(
                f"tracking={self.kind} needs a package that is not installed; type: {self.needs[1]}, or leave it out of "
                "tracking=..."
            )

    @abstractmethod
    def start(self, run: TrackedRun) -> None:
        """Start tracking `run`, or continue it if its identity is known."""

    @abstractmethod
    def log(self, row: Row, step: int) -> None:
        """Write the numbers of one row; None stands for NaN and infinities.

        Args:
            row: Name of the metric -> number.
            step: Optimizer steps taken.
        """

    def log_completions(self, rows: Sequence[Row], step: int) -> None:
        """Write a sample of completions; all rows have the same keys."""

    def alert(self, title: str, text: str, level: Level, step: int) -> None:
        """Write that a health rule is broken."""

    def summarize(self, values: Row) -> None:
        """Write the results of the step or run."""

    def finish(self, code: ExitCode) -> None:
        """Write what is left, and how the step or run ended."""


def refuse_secret(key: str, address: str | None) -> str | None:
    """Return an address that is typed as a setting, unless it contains a password or a token.

    Raises:
        ValueError: it does; settings are written to manifest.json and step.json.
    """
    parts = urlsplit(address or "")
    if parts.password is not None or "token" in parts.query.lower():
        raise ValueError(
            f"{key} contains a password or a token, which would be written to the run directory; set it in the "
            "environment (docs/tracking.md names the variables) and leave it out of the address"
        )
    return address
