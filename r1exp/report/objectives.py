"""Reads the objectives of a run from its summary, and says in which direction each is better. Torch-free.

accuracy  accuracy of the focus step's model, the run's objective: larger is better
tokens    mean tokens of the answers that this accuracy was measured on: smaller is better
format    share of these answers in the prompt's format: larger is better
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from r1exp.files import read_json_object
from r1exp.paths import SweepPaths
from r1exp.report.numbers import Style

Direction = Literal["maximize", "minimize"]
DIRECTIONS: dict[str, Direction] = {"accuracy": "maximize", "tokens": "minimize", "format": "maximize"}
STYLES: dict[str, Style] = {"accuracy": "percent", "tokens": "plain", "format": "percent"}
UNITS = {"accuracy": "%", "tokens": "per answer", "format": "%"}
ONLY_ACCURACY = ("accuracy",)


def values_of(summary: Mapping[str, Any], names: Sequence[str]) -> list[float] | None:
    """Return the objectives of a run in the order of their names; None where one was not measured.

    Args:
        summary: Of the run, or its row in `sweep.json`.
        names: Of the objectives.
    """
    if summary.get("state") != "done" or summary.get("objective") is None:
        return None
    label, _, mode = str(summary.get("objective_of", "")).partition(" ")
    suites: Mapping[str, Any] = summary.get("evaluations", {}).get(label, {})
    empty: Mapping[str, Any] = {}
    measured = next(iter(suites.values()), empty).get(mode, {})
    found = {
        "accuracy": summary["objective"],
        "tokens": measured.get("output_tokens_mean"),
        "format": measured.get("format", {}).get("value"),
    }
    values = [found[name] for name in names]
    return None if any(value is None for value in values) else [float(value) for value in values]


def objectives_of(sweep: Path) -> tuple[str, ...]:
    """Return the objectives of a sweep, as its command named them."""
    found = read_json_object(SweepPaths(sweep).objectives).get("objectives", [])
    return tuple(name for name in found if name in DIRECTIONS) or ONLY_ACCURACY
