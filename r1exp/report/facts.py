"""Computes what summary.json says about the training of a step: segments, each reward's anatomy, health and time.

Segments: the logged optimizer steps are cut into thirds, and `early`, `mid` and `end` are the means of a metric over each
(with fewer than three rows there are no segments); `best` is the largest logged reward. Source: [sft-grpo], which
compares runs by such segments instead of by the last row. Torch-free.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from r1exp.files import read_json_object
from r1exp.paths import StepPaths
from r1exp.report.shown import in_order, member_of
from r1exp.tracking.metrics import MetricsFile

Row = Mapping[str, Any]
_PARTS = {"mean": "mean", "variance_share": "variance_share", "abstained": "abstained"}


def training_facts(paths: StepPaths, weights: Mapping[str, float]) -> dict[str, Any]:
    """Return `segments`, `rewards`, `health`, `timing` and `memory` of a step, each only where there is something to say.

    Args:
        paths: Of the step.
        weights: Member of the committee -> its weight; empty for a step without rewards.
    """
    rows = [row for row in MetricsFile(paths.metrics).rows() if "train_runtime" not in row]
    facts = {
        "segments": segments(rows),
        "rewards": anatomy(rows, weights),
        "health": MetricsFile(paths.health_log).rows(),
        "timing": timing(rows),
        "memory": read_json_object(paths.memory),  # peak of rank 0 in GiB: host_gib, device_gib
    }
    return {name: value for name, value in facts.items() if value}


def segments(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return metric -> `early`, `mid`, `end`: means over thirds of the logged optimizer steps; `best` of the reward."""
    found: dict[str, dict[str, float]] = {}
    for shown in in_order({metric for row in rows for metric in row}):
        values = _values(rows, shown.metric)
        if not shown.has_segments or len(values) < 3:
            continue
        number = len(values)
        cuts = [0, number // 3, number - number // 3, number]
        parts = [values[first:last] for first, last in pairwise(cuts)]
        found[shown.metric] = dict(zip(("early", "mid", "end"), map(_mean, parts), strict=True))
        if shown.metric == "reward":
            found[shown.metric]["best"] = max(values)
    return found


def anatomy(rows: Sequence[Row], weights: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return member -> `weight`, and over all logged rows its mean score, its mean share of the variance within groups, and the mean share of completions on which it abstained."""
    found: dict[str, dict[str, float]] = {}
    for shown in in_order({metric for row in rows for metric in row}):
        member = member_of(shown.metric)
        if member is None:
            continue
        found[member] = {"weight": weights[member]} if member in weights else {}
        for name, part in _PARTS.items():
            values = _values(rows, f"rewards/{member}/{part}")
            if values:
                found[member][name] = _mean(values)
    return found


def timing(rows: Sequence[Row]) -> dict[str, float]:
    """Return the mean and the longest time of an optimizer step, in seconds, and the number of optimizer steps."""
    values = _values(rows, "step_time")
    steps = {"optimizer_steps": max(int(row["step"]) for row in rows)} if rows else {}
    return steps | ({"mean_seconds": _mean(values), "max_seconds": max(values)} if values else {})


def _values(rows: Sequence[Row], metric: str) -> list[float]:
    return [float(row[metric]) for row in rows if isinstance(row.get(metric), int | float)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
