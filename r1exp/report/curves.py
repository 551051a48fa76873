"""Reads the curves of runs from metrics.jsonl, and joins those of runs that differ in the seed only.

A curve of several runs is their mean at each optimizer step, with a band from the smallest to the largest. A curve with more points than
fit is thinned: each point is then the mean over as many neighboring ones, with a band that holds their extremes. Torch-free.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1exp.paths import StepPaths
from r1exp.report.shown import in_order
from r1exp.tracking.metrics import MetricsFile

_DIGITS = 5  # significant digits of a point


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric over the optimizer steps of a step; `low` and `high` bound the band."""

    steps: list[int]
    values: list[float]
    low: list[float]
    high: list[float]

    def to_json(self) -> dict[str, list[Any]]:
        """Return the curve with rounded numbers; without a band where it has no width."""
        rounded = [[float(f"{value:.{_DIGITS}g}") for value in part] for part in self._parts()]
        names = ("y", "low", "high")
        shown = dict(zip(names, rounded, strict=True)) if self.low != self.high else {"y": rounded[0]}
        return {"x": self.steps, **shown}

    def _parts(self) -> tuple[list[float], list[float], list[float]]:
        return self.values, self.low, self.high


Points = dict[int, tuple[float, float, float]]  # optimizer step -> value, low, high


def points_of(paths: StepPaths) -> dict[str, Points]:
    """Return metric -> points of a step; the bounds of an evaluation during training are those that were logged."""
    rows = [row for row in MetricsFile(paths.metrics).rows() if "train_runtime" not in row]
    found: dict[str, Points] = {}
    for shown in in_order({metric for row in rows for metric in row}):
        bounds = (
            [shown.metric.removesuffix("accuracy") + bound for bound in ("low", "high")]
            if shown.metric.startswith("eval/")
            else [shown.metric, shown.metric]
        )
        points = {
            int(row["step"]): (float(row[shown.metric]), *(float(row.get(bound, row[shown.metric])) for bound in bounds))
            for row in rows
            if isinstance(row.get(shown.metric), int | float)
        }  # fmt: skip
        found[shown.metric] = {step: (value, low, high) for step, (value, low, high) in points.items()}
    return found


def joined(runs: Sequence[Points], max_points: int) -> Curve:
    """Return the curve of runs that differ in the seed only: means, and a band from the smallest to the largest.

    Args:
        runs: The points of each run, at least one of them not empty.
        max_points: A longer curve is thinned.
    """
    steps = sorted({step for points in runs for step in points})
    size = -(-len(steps) // max_points)  # neighboring points that become one
    curve = Curve([], [], [], [])
    for start in range(0, len(steps), size):
        part = steps[start : start + size]
        found = [points[step] for step in part for points in runs if step in points]
        curve.steps.append(part[-1])
        curve.values.append(sum(value for value, _, _ in found) / len(found))
        curve.low.append(min(low for _, low, _ in found))
        curve.high.append(max(high for _, _, high in found))
    return curve


def panels_of(
    settings: Sequence[Sequence[Mapping[str, Mapping[str, Points]]]], max_points: int
) -> list[dict[str, Any]]:
    """Return the panels of a report: one for each metric and step of the pipeline, with a curve for each setting.

    Args:
        settings: For each setting the runs, each with step name -> metric -> points.
        max_points: Of a curve.
    """
    names = list(dict.fromkeys(step for runs in settings for run in runs for step in run))
    metrics = {metric for runs in settings for run in runs for points in run.values() for metric in points}
    panels = []
    for shown in in_order(metrics):
        for name in names:
            curves = []
            for index, runs in enumerate(settings):
                found = [points for run in runs if (points := run.get(name, {}).get(shown.metric))]
                if found:
                    curves.append({"setting": index, **joined(found, max_points).to_json()})
            if curves:
                panels.append(
                    {"metric": shown.metric, "title": shown.title, "unit": shown.unit, "step": name, "curves": curves}
                )  # fmt: skip
    return panels
