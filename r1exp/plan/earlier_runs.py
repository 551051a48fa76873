"""Reads what varies in the accuracy from finished runs: those with the same model, data and evaluation as a plan.

Runs below `paths.runs` are read, the newest first. A run counts where its focus step is of the same stage, trains at least half and at
most twice as many optimizer steps, and where the model, the data set, the prompt and the suite of the evaluation are those of the plan. The
number of problems and of answers may differ: variances are of one problem and one answer. Runs that differ in nothing but seeds
are of one setting.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1exp.errors import Refused
from r1exp.files import hash_of, read_json_object
from r1exp.paths import RunPaths
from r1exp.plan.steps import PlannedStep
from r1exp.statistics.components import Table

_MOST_READ = 300  # runs, the newest first
_MOST_SCALED = 2.0  # largest ratio of optimizer steps
_SHARED = ("model", "dataset", "prompt")
_SUITE = ("temperature", "top_p", "max_tokens", "judge", "suites")
_NO_SETTING = frozenset({"seed", "tracking", "completions", "health", "launcher", "debug"})


@dataclass(frozen=True)
class EarlierRuns:
    """Answers of finished runs, by setting."""

    tables: tuple[Table, ...]
    runs: tuple[str, ...]  # the folders that were used, relative to the folder of all runs


def earlier_runs(folder: Path, focus: PlannedStep, evaluation: PlannedStep) -> EarlierRuns:
    """Return the answers of finished runs that resemble a plan.

    Args:
        folder: Of all runs.
        focus: The planned focus step.
        evaluation: The planned evaluation of its model.
    """
    found: dict[tuple[str, str], dict[int, tuple[Any, int]]] = {}
    used: dict[str, None] = {}
    for run in _newest(folder):
        outcomes = _outcomes(run, focus, evaluation)
        if outcomes is None:
            continue
        known = found.setdefault((outcomes.setting, outcomes.problems), {})
        if outcomes.seed not in known:
            known[outcomes.seed] = (outcomes.answers, len(outcomes.answers[0]))
            used[str(run.relative_to(folder))] = None
    return EarlierRuns(tuple(_tables(found)), tuple(used))


def _newest(folder: Path) -> Sequence[Path]:
    name = RunPaths(folder).summary.name
    paths = [path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(f"{depth}/{name}")]
    newest = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.parent for path in newest[:_MOST_READ]]


@dataclass(frozen=True)
class _Outcomes:
    setting: str
    problems: str
    seed: int
    answers: list[list[bool]]


def _outcomes(run: Path, focus: PlannedStep, evaluation: PlannedStep) -> _Outcomes | None:
    """Return the answers of a run; None where it is no such run, or another version wrote it."""
    summary = _read(RunPaths(run).summary)
    label, _, mode = str(summary.get("objective_of", "")).partition(" ")
    scores = summary.get("scores", {}).get(label)
    if summary.get("state") != "done" or scores is None:
        return None
    plan = _read(RunPaths(run).plan)
    try:
        steps = {step["name"]: step for step in plan["steps"]}
        measured = next(step for step in plan["steps"] if _makes_scores(step) and step["label"] == label)
        trained = steps[plan["focus"]]
        if not _resembles(trained, focus, measured, evaluation):
            return None
        setting = hash_of([_setting(step["config"]) for step in plan["steps"] if not _makes_scores(step)])
        seed = int(trained["config"]["seed"])
    except (KeyError, TypeError, ValueError, StopIteration):
        return None
    content = _read(run / scores)
    answers = content.get("outcomes", {}).get(mode)
    ids = content.get("problem_ids")
    if not answers or not ids or len(ids) < 2 or len({len(each) for each in answers}) != 1:
        return None
    return _Outcomes(setting, hash_of(ids), seed, answers)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return read_json_object(path) if path.is_file() else {}
    except (OSError, Refused):
        return {}


def _makes_scores(step: Mapping[str, Any]) -> bool:
    return bool(step["config"]["stage"]["kind"] == "evaluate")


def _resembles(
    trained: Mapping[str, Any], focus: PlannedStep, measured: Mapping[str, Any], evaluation: PlannedStep
) -> bool:
    assert focus.config.stage is not None
    if trained["config"]["stage"]["kind"] != focus.config.stage.kind:
        return False
    planned, ran = focus.config.max_steps, trained["config"].get("max_steps")
    if planned and (not ran or not 1 / _MOST_SCALED <= planned / ran <= _MOST_SCALED):
        return False
    own = json.loads(evaluation.config.model_dump_json(include={*_SHARED, "evaluation"}))
    theirs = measured["config"]
    return all(_without_path(theirs[name]) == _without_path(own[name]) for name in _SHARED) and all(
        theirs["evaluation"].get(name) == own["evaluation"].get(name) for name in _SUITE
    )


def _without_path(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without those that change neither the kind of model nor of problem."""
    return {name: each for name, each in value.items() if name not in ("learning_rate", "rows_per_device")}


def _setting(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _NO_SETTING}


def _tables(found: Mapping[tuple[str, str], dict[int, tuple[Any, int]]]) -> Iterator[Table]:
    """Yield a table for each setting and number of answers."""
    import numpy as np

    for (setting, problems), runs in found.items():
        for samples in sorted({number for _, number in runs.values()}):
            seeds = tuple(sorted(seed for seed, (_, number) in runs.items() if number == samples))
            shares = np.array([[sum(each) / samples for each in runs[seed][0]] for seed in seeds])
            yield Table(setting, seeds, shares, samples, problems)
