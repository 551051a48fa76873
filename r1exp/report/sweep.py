"""Ranks the settings of a sweep in a table: one row for each setting, best first; the runs of a setting are its seeds.

With several runs of a setting, an interval is Student's t over their values, which covers the variation of training
as well as that of the problems. With one run it is the interval of that run, over problems only. `p at most` is the
largest p-value of the runs' paired tests on the same problems.

Settings are ranked by the mean objective over the seeds that all of them have, so that the order agrees with the
column of paired differences. Without such a seed they are ranked by the mean over their own runs, which is said.
Torch-free.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from r1exp.errors import Refused
from r1exp.files import read_json_object, write_text
from r1exp.paths import RunPaths, SweepPaths
from r1exp.plan.run_plan import read_plan
from r1exp.report.summary import summarize
from r1exp.report.sweep_table import rows_of
from r1exp.statistics.intervals import Interval, mean_interval

_MODES = ("sampled", "greedy")
_KEYS = frozenset({"state", "objective", "overrides", "comparisons"})
_STEP_SEED = re.compile(r"pipeline\.steps\.[^.]+\.set\.seed")
Seeds = tuple[str, ...]  # the overrides of a run that set a seed: of the run, or of one step


@dataclass(frozen=True)
class Setting:
    """The runs that differ only in the seed."""

    overrides: tuple[str, ...]  # overrides that not every run has
    runs: tuple[dict[str, Any], ...]  # summaries

    def objectives(self) -> dict[Seeds, float]:
        """Return the objective of each seed; the mean of runs that share one. Runs without an objective are left out."""
        found: dict[Seeds, list[float]] = {}
        for run in self.runs:
            if run["objective"] is not None:
                found.setdefault(_seeds(run), []).append(run["objective"])
        return {seeds: sum(values) / len(values) for seeds, values in found.items()}

    def mean_objective(self, seeds: set[Seeds]) -> float:
        """Return the mean objective over `seeds`, or over all its own if there are none; -inf if nothing was measured."""
        values = [value for seed, value in self.objectives().items() if not seeds or seed in seeds]
        return sum(values) / len(values) if values else -math.inf


def why_without_objective(summary: dict[str, Any]) -> str:
    """Return why a run has no objective: the step that ended it, and its reason.

    Args:
        summary: Of the run, or its row in `sweep.json`.
    """
    if summary.get("reason"):
        return str(summary["reason"])
    for name, step in summary.get("steps", {}).items():
        if step["state"] not in ("done", "planned"):
            return f"step {name} {step['state']}: {step.get('reason', 'no reason was written')}"
    return str(summary.get("objective_missing") or "it measured no accuracy")


def sweep_report(folder: Path, states: Mapping[str, dict[str, Any]] | None = None) -> str:
    """Return the table of a sweep's finished runs, and write it to `<folder>/report.md`.

    Args:
        folder: Of the sweep; of a single run, its own summary is the only row, and nothing is written.
        states: For members that are not done, by name, `state` and `reason` as `r1exp sweep status` shows them.

    Raises:
        Refused: no run below `folder` has finished.
    """
    text = sweep_text(folder, states)
    if not RunPaths(folder).summary.exists():
        write_text(SweepPaths(folder).report, text)
    return text


def sweep_text(folder: Path, states: Mapping[str, dict[str, Any]] | None = None) -> str:
    """Return what `sweep_report` returns, and write nothing."""
    if not folder.is_dir():
        raise Refused(f"{folder}: there is no such folder")
    single = RunPaths(folder).summary
    paths = [single] if single.exists() else sorted(folder.glob(f"*/{single.name}"), key=_number)
    found = {path.parent.name: _summary(path) for path in paths}
    for name, run in found.items():
        if not run.keys() >= _KEYS:
            raise Refused(
                f"{folder / name}: its {single.name} is none of this version of r1exp; remove the folder"
            )
    done = [run for run in found.values() if run["state"] == "done"]
    if any("objective_of" not in run and "objective_missing" not in run for run in done):
        raise Refused(
            f"the runs of {folder} were made by an earlier version of r1exp; report them with that version"
        )
    if not done:
        unknown = next((f" ({run['reason']})" for run in found.values() if run["state"] == "unknown"), "")
        raise Refused(
            f"no run of {folder} has finished{unknown}; `r1exp sweep status {folder}` shows the state of each run"
        )
    common = set.intersection(*(set(run["overrides"]) for run in done))
    settings = _settings(done, common)
    seeds = _common_seeds(settings)
    settings.sort(key=lambda setting: setting.mean_objective(seeds), reverse=True)
    lines = [f"# {done[0]['name']}: {_counted(len(done))}", ""]
    if all(len(setting.runs) == 1 for setting in settings):
        lines += _best_run({name: run for name, run in found.items() if run["state"] == "done"}, common)
    lines += _left_out(folder, found, states or {})
    lines += [*_table(settings, seeds), "", _note(settings, seeds)]
    if common:
        lines += ["", f"Every run: `{' '.join(text for text in done[0]['overrides'] if text in common)}`"]
    return "\n".join(lines) + "\n"


def _summary(path: Path) -> dict[str, Any]:
    """Return the content of a summary; of one that is damaged, what the steps of the run have written."""
    content = read_json_object(path)
    if content:
        return content
    run = path.parent
    try:
        return summarize(read_plan(run), run)
    except Refused as error:
        return {
            "state": "unknown",
            "reason": f"{path} is damaged, and {error}",
            "objective": None,
            "overrides": [],
            "comparisons": {},
        }


def _number(path: Path) -> tuple[int, str]:
    """Return the order of a member's file: by number."""
    name = path.parent.name
    return (int(name) if name.isdigit() else -1, name)


def _counted(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"


def _best_run(done: dict[str, dict[str, Any]], common: set[str]) -> list[str]:
    """Return the line that names the run with the largest objective; none where no run, or only one, has one."""
    measured = {name: run for name, run in done.items() if run["objective"] is not None}
    if len(measured) < 2:
        return []
    name = max(measured, key=lambda name: float(measured[name]["objective"]))
    own = " ".join(text for text in measured[name]["overrides"] if text not in common)
    return [f"Best run: {name} ({own or 'defaults'}), objective {measured[name]['objective']:.4g}.", ""]


def _left_out(
    folder: Path, found: dict[str, dict[str, Any]], states: Mapping[str, dict[str, Any]]
) -> list[str]:
    """Return a line for each run that did not finish, with its reason."""
    rows = {row["member"]: row for row in rows_of(folder)}
    missing = {
        name: {**rows.get(name, {}), **found.get(name, {}), **states.get(name, {})}
        for name in sorted({*rows, *found, *states}, key=lambda name: _number(folder / name / "x"))
        if found.get(name, {}).get("state") != "done"
    }
    if not missing:
        return []
    verb, noun = ("is", "it has") if len(missing) == 1 else ("are", "they have")
    lines = [f"{_counted(len(missing))} {verb} left out because {noun} not finished:", ""]
    for name, run in missing.items():
        lines.append(f"* {name}, {run.get('state', 'refused')}{_why(run)}".replace("\n", " "))
    return [*lines, ""]


def _why(run: dict[str, Any]) -> str:
    """Return the reason why a run did not finish; nothing where none is known, as of a job that is still running."""
    known = run.get("reason") or run.get("steps") or run.get("objective_missing")
    return f": {why_without_objective(run)}" if known else ""


def _settings(runs: Sequence[dict[str, Any]], common: set[str]) -> list[Setting]:
    grouped: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for run in runs:
        own = [text for text in run["overrides"] if text not in common and not _is_seed(text)]
        grouped.setdefault(tuple(own), []).append(run)
    return [Setting(overrides, tuple(members)) for overrides, members in grouped.items()]


def _is_seed(override: str) -> bool:
    key = override.lstrip("+").partition("=")[0]
    return key == "seed" or _STEP_SEED.fullmatch(key) is not None


def _seeds(run: dict[str, Any]) -> Seeds:
    return tuple(text for text in run["overrides"] if _is_seed(text))


def _common_seeds(settings: Sequence[Setting]) -> set[Seeds]:
    """Return the seeds for which every setting has an objective; settings without any objective do not count."""
    found = [set(setting.objectives()) for setting in settings if setting.objectives()]
    return set.intersection(*found) if found else set()


def _table(settings: Sequence[Setting], seeds: set[Seeds]) -> list[str]:
    heads = ["setting", "runs"]
    for mode in _MODES:
        heads += [f"{mode}, %", f"gain, {mode}", "p at most"]
    heads.append("objective, against the first row")
    rows = [_row(setting, settings[0], seeds) for setting in settings]
    return ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows)]


def _row(setting: Setting, best: Setting, seeds: set[Seeds]) -> list[str]:
    cells = [" ".join(setting.overrides) or "defaults", str(len(setting.runs))]
    for mode in _MODES:
        cells += [_points(_accuracy(setting, mode)), *_gain(setting, mode)]
    return [*cells, "" if setting is best else _points(_against(setting, best, seeds), is_signed=True)]


def _accuracy(setting: Setting, mode: str) -> Interval | None:
    """Return the accuracy of the focus step's model, over the runs."""
    scores = [score for run in setting.runs if (score := _of_focus(run).get(mode)) is not None]
    found = _over_runs([(score["value"], score["low"], score["high"]) for score in scores])
    # An accuracy is in [0, 1].
    return found and Interval(found.value, found.n, max(found.low, 0.0), min(found.high, 1.0))


def _of_focus(run: dict[str, Any]) -> dict[str, Any]:
    return dict(run[f"{_label(run)}_accuracy"]) if run["objective"] is not None else {}


def _label(run: dict[str, Any]) -> str:
    """Return the label of the accuracy that is the objective."""
    return str(run["objective_of"]).partition(" ")[0]


def _gain(setting: Setting, mode: str) -> tuple[str, str]:
    """Return the cells of the change in accuracy by the focus step, and of the largest p-value of the runs' tests."""
    gain, p_value = _gained(setting, mode)
    return _points(gain, is_signed=True), "" if p_value is None else f"{p_value:.1g}"


def _gained(setting: Setting, mode: str) -> tuple[Interval | None, float | None]:
    """Return the change in accuracy by the focus step, and the largest p-value of the runs' tests."""
    tests = [
        comparison[mode]
        for run in setting.runs
        if run["objective"] is not None
        for name, comparison in run["comparisons"].items()
        if name.startswith(f"{_label(run)} - ") and mode in comparison
    ]
    gain = _over_runs([(test["difference"], test["low"], test["high"]) for test in tests])
    return gain, max((float(test["p_value"]) for test in tests), default=None)


def _against(setting: Setting, best: Setting, seeds: set[Seeds]) -> Interval | None:
    """Return the differences in objective between runs with the same seed, over the seeds of all settings."""
    ours, theirs = setting.objectives(), best.objectives()
    differences = [ours[seed] - theirs[seed] for seed in sorted(seeds) if seed in ours and seed in theirs]
    return _over_runs([(value, value, value) for value in differences])


def _over_runs(figures: Sequence[tuple[float, float, float]]) -> Interval | None:
    """Return the mean of (value, low, high) over runs; for a single run, its own interval."""
    if not figures:
        return None
    if len(figures) == 1:
        return Interval(figures[0][0], 1, *figures[0][1:])
    return mean_interval([[value] for value, _, _ in figures])


def _points(interval: Interval | None, is_signed: bool = False) -> str:
    if interval is None:
        return ""
    sign = "+" if is_signed else ""
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in (interval.value, interval.low, interval.high))
    return mean if low == high == mean else f"{mean} [{low}, {high}]"


def _note(settings: Sequence[Setting], seeds: set[Seeds]) -> str:
    several = all(len(setting.runs) > 1 for setting in settings)
    over = "runs (Student's t)" if several else "runs (Student's t), or over problems if there is one run"
    note = f"95 % intervals over {over}. Gain: change by the focus step."
    if len(settings) == 1:
        return note
    if not seeds:
        return f"{note} Ranked by the mean over each setting's own runs, because no seed is common to all settings."
    if any(set(setting.objectives()) - seeds for setting in settings):
        names = ", ".join(" ".join(seed) or "the default seed" for seed in sorted(seeds))
        note += f" Ranked and compared on what every setting has: {names}."
    return note


def ranking(runs: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the settings of finished and unfinished runs as JSON, ranked as in the table of `sweep_report`; settings without a finished run are last.

    Args:
        runs: Name -> summary.

    Returns:
        `common`, the overrides of all runs; `note`; and `settings`, each with `overrides`, `runs` (names) and `num_runs` (finished),
        `accuracy` and `gain` (decoding -> interval), `p_at_most`, `objective`, and `against_best`, the difference from the first one.
    """
    common = set.intersection(*(set(run["overrides"]) for run in runs.values())) if runs else set()
    names = {id(run): name for name, run in runs.items()}
    settings = _settings(list(runs.values()), common)
    finished = {
        setting.overrides: Setting(
            setting.overrides, tuple(run for run in setting.runs if run["state"] == "done")
        )
        for setting in settings
    }
    done = [setting for setting in finished.values() if setting.runs]
    seeds = _common_seeds(done)
    settings.sort(key=lambda setting: finished[setting.overrides].mean_objective(seeds), reverse=True)
    rows = []
    for setting in settings:
        own = finished[setting.overrides]
        row: dict[str, Any] = {
            "overrides": list(setting.overrides),
            "runs": [names[id(run)] for run in setting.runs],
            "num_runs": len(own.runs),
        }
        if own.objectives():
            best = finished[settings[0].overrides]
            against = None if setting is settings[0] else _against(own, best, seeds)
            row["objective"] = own.mean_objective(seeds)
            row |= {} if against is None else {"against_best": asdict(against)}
            row["accuracy"] = _by_mode({mode: _accuracy(own, mode) for mode in _MODES})
            row["gain"] = _by_mode({mode: _gained(own, mode)[0] for mode in _MODES})
            row["p_at_most"] = {mode: p for mode in _MODES if (p := _gained(own, mode)[1]) is not None}
        rows.append(row)
    every = next(iter(runs.values()))["overrides"] if runs else []
    note = _note(done, seeds) if done else ""
    return {"common": [text for text in every if text in common], "note": note, "settings": rows}


def _by_mode(intervals: Mapping[str, Interval | None]) -> dict[str, dict[str, Any]]:
    return {mode: asdict(found) for mode, found in intervals.items() if found is not None}
