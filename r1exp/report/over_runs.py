"""Computes accuracies and differences over the runs of a setting, and names the luck that their intervals hold.

    one run, or one pair of runs          problems, sampling
    several runs with kept outcomes       problems, sampling, training seeds (r1exp.statistics.crossed)
    several runs without them             training seeds, sampling: Student's t over the runs, for these problems only

Outcomes are read from the scores.json of each run; they are missing of runs of an earlier version, or where runs were evaluated on
other problems. Torch-free.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from r1exp.evaluation.outcomes import compare
from r1exp.files import read_json_object
from r1exp.statistics.crossed import crossed_difference, crossed_proportion
from r1exp.statistics.intervals import Interval, mean_interval
from r1exp.statistics.student import two_sided_p

Run = Mapping[str, Any]  # a summary, with the `folder` that it was read from
Outcomes = tuple[tuple[bool, ...], ...]

PROBLEMS, SAMPLING, SEEDS = "problems", "sampling", "training seeds"


@dataclass(frozen=True)
class Figure:
    """A value with its interval, the luck that the interval holds, and for a difference the p-value."""

    interval: Interval
    holds: tuple[str, ...]
    p_value: float | None = None


def accuracy_over(runs: Sequence[Run], label: str, mode: str) -> Figure | None:
    """Return the accuracy with this label over runs of one setting; None without any."""
    scores = [run[key][mode] for run in runs if mode in run.get(key := f"{label}_accuracy", {})]
    if not scores:
        return None
    if len(scores) == 1:
        only = scores[0]
        return Figure(Interval(only["value"], 1, only["low"], only["high"]), (PROBLEMS, SAMPLING))
    outcomes = _outcomes_of(runs, label, mode)
    if outcomes is not None and len(outcomes) == len(scores):
        return Figure(crossed_proportion(outcomes), (PROBLEMS, SAMPLING, SEEDS))
    found = mean_interval([[score["value"]] for score in scores])
    return Figure(
        Interval(found.value, found.n, max(found.low, 0.0), min(found.high, 1.0)), (SEEDS, SAMPLING)
    )


def difference_over(
    before: Sequence[tuple[Run, str]], after: Sequence[tuple[Run, str]], mode: str
) -> Figure | None:
    """Return the difference after - before over pairs of runs; each side is a run and the label of its accuracy."""
    values = [
        (first[f"{label}_accuracy"][mode]["value"], second[f"{other}_accuracy"][mode]["value"])
        for (first, label), (second, other) in zip(before, after, strict=True)
        if mode in first.get(f"{label}_accuracy", {}) and mode in second.get(f"{other}_accuracy", {})
    ]
    if not values or len(values) < len(before):
        return None
    sides = [[outcomes_of(run, label, mode) for run, label in side] for side in (before, after)]
    known = [_alike(side) for side in sides]
    has_outcomes = known[0] is not None and known[1] is not None and _ids(sides[0]) == _ids(sides[1])
    if len(values) == 1:
        return _of_one_pair(known, values[0]) if has_outcomes else None
    if has_outcomes:
        found = crossed_difference(known[0] or [], known[1] or [])
        interval = Interval(found.difference, found.num_seeds, found.low, found.high)
        return Figure(interval, (PROBLEMS, SAMPLING, SEEDS), found.p_value)
    return t_over([second - first for first, second in values])


def t_over(differences: Sequence[float]) -> Figure:
    """Return the mean of at least two differences with Student's t over the runs."""
    interval = mean_interval([[value] for value in differences])
    center, half = interval.value, (interval.high - interval.low) / 2.0
    spread = sum((value - center) ** 2 for value in differences)
    p_value = None
    if half > 0.0:
        error = (spread / (len(differences) - 1) / len(differences)) ** 0.5
        p_value = two_sided_p(center / error, len(differences) - 1)
    return Figure(interval, (SEEDS, SAMPLING), p_value)


def _of_one_pair(known: Sequence[Sequence[Outcomes] | None], value: tuple[float, float]) -> Figure:
    assert known[0] is not None and known[1] is not None
    test = compare(known[0][0], known[1][0])
    interval = Interval(value[1] - value[0], 1, test["low"], test["high"])
    return Figure(interval, (PROBLEMS, SAMPLING), test["p_value"])


@lru_cache(maxsize=256)
def _read(path: Path, label: str, mode: str) -> tuple[tuple[str, ...], Outcomes] | None:
    """Return the ids of the problems and the outcomes of a scores.json; None without them."""
    content = read_json_object(path) if path.is_file() else {}
    outcomes = content.get("outcomes", {}).get(mode)
    if not outcomes or "problem_ids" not in content:
        return None
    return tuple(map(str, content["problem_ids"])), tuple(tuple(map(bool, each)) for each in outcomes)


def outcomes_of(run: Run, label: str, mode: str) -> tuple[tuple[str, ...], Outcomes] | None:
    """Return the ids of the problems and the outcomes of an accuracy of a run; None without them."""
    if "folder" not in run or label not in run.get("scores", {}):
        return None
    return _read(Path(run["folder"]) / run["scores"][label], label, mode)


def _outcomes_of(runs: Sequence[Run], label: str, mode: str) -> list[Outcomes] | None:
    return _alike([outcomes_of(run, label, mode) for run in runs])


def _alike(found: Sequence[tuple[tuple[str, ...], Outcomes] | None]) -> list[Outcomes] | None:
    """Return the outcomes of runs that were evaluated on the same problems, at least two, with as many answers to each."""
    known = [each for each in found if each is not None]
    if len(known) < len(found) or len({ids for ids, _ in known}) != 1 or len(known[0][0]) < 2:
        return None
    outcomes = [each for _, each in known]
    return outcomes if len({len(answers) for run in outcomes for answers in run}) == 1 else None


def _ids(found: Sequence[tuple[tuple[str, ...], Outcomes] | None]) -> set[tuple[str, ...]]:
    return {each[0] for each in found if each is not None}
