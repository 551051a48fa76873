"""Ranks the settings of a sweep in a table: one row for each setting, best first; the runs of a setting are its seeds.

With several runs of a setting, an interval is Student's t over their values, which covers the variation of training
as well as that of the problems. With one run it is the interval of that run, over problems only. `p at most` is the
largest p-value of the runs' paired tests on the same problems. Torch-free.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1exp.errors import Refused
from r1exp.files import read_json, write_text
from r1exp.paths import RunPaths, SweepPaths
from r1exp.statistics.intervals import Interval, mean_interval

_MODES = ("sampled", "greedy")
_SEED = "seed="


@dataclass(frozen=True)
class Setting:
    """The runs that differ only in the seed."""

    overrides: tuple[str, ...]  # overrides that not every run has
    runs: tuple[dict[str, Any], ...]  # summaries

    @property
    def objective(self) -> float:
        """The mean objective; -1 if nothing was measured."""
        values = [run["objective"] for run in self.runs if run["objective"] is not None]
        return sum(values) / len(values) if values else -1.0


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
    return "it measured no sampled accuracy"


def sweep_report(folder: Path) -> str:
    """Return the table of a sweep's finished runs, and write it to `<folder>/report.md`.

    Args:
        folder: Of the sweep; of a single run, its own summary is the only row, and nothing is written.

    Raises:
        Refused: no run below `folder` has finished.
    """
    if not folder.is_dir():
        raise Refused(f"{folder}: there is no such folder")
    single = RunPaths(folder).summary
    paths = [single] if single.exists() else sorted(folder.glob(f"*/{single.name}"), key=_number)
    found = {path.parent.name: read_json(path) for path in paths}
    for name, run in found.items():
        if not isinstance(run, dict) or not {"state", "objective", "overrides"} <= run.keys():
            raise Refused(
                f"{folder / name}: its {single.name} is none of this version of r1exp; remove the folder"
            )
    done = [run for run in found.values() if run["state"] == "done"]
    if not done:
        raise Refused(
            f"no run of {folder} has finished; `r1exp sweep status {folder}` shows the state of each run"
        )
    common = set.intersection(*(set(run["overrides"]) for run in done))
    settings = sorted(_settings(done, common), key=lambda setting: setting.objective, reverse=True)
    lines = [f"# {done[0]['name']}: {_counted(len(done))}", ""]
    lines += _best_run({name: run for name, run in found.items() if run["state"] == "done"}, common)
    lines += _left_out(folder, found)
    lines += [*_table(settings), "", _note(settings)]
    if common:
        lines += ["", f"Every run: `{' '.join(text for text in done[0]['overrides'] if text in common)}`"]
    text = "\n".join(lines) + "\n"
    if not single.exists():
        write_text(SweepPaths(folder).report, text)
    return text


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


def _left_out(folder: Path, found: dict[str, dict[str, Any]]) -> list[str]:
    """Return a line for each run that did not finish, with its reason."""
    table = SweepPaths(folder).table
    rows = {row["member"]: row for row in read_json(table)} if table.exists() else {}
    missing = {
        name: {**rows.get(name, {}), **found.get(name, {})}
        for name in sorted({*rows, *found}, key=lambda name: _number(folder / name / "x"))
        if found.get(name, {}).get("state") != "done"
    }
    if not missing:
        return []
    verb, noun = ("is", "it has") if len(missing) == 1 else ("are", "they have")
    lines = [f"{_counted(len(missing))} {verb} left out because {noun} not finished:", ""]
    for name, run in missing.items():
        lines.append(
            f"* {name}, {run.get('state', 'refused')}: {why_without_objective(run)}".replace("\n", " ")
        )
    return [*lines, ""]


def _settings(runs: Sequence[dict[str, Any]], common: set[str]) -> list[Setting]:
    grouped: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for run in runs:
        own = [text for text in run["overrides"] if text not in common and not text.startswith(_SEED)]
        grouped.setdefault(tuple(own), []).append(run)
    return [Setting(overrides, tuple(members)) for overrides, members in grouped.items()]


def _table(settings: Sequence[Setting]) -> list[str]:
    heads = ["setting", "runs"]
    for mode in _MODES:
        heads += [f"{mode}, %", f"gain, {mode}", "p at most"]
    heads.append("sampled, against the first row")
    rows = [_row(setting, settings[0]) for setting in settings]
    return ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows)]


def _row(setting: Setting, best: Setting) -> list[str]:
    cells = [" ".join(setting.overrides) or "defaults", str(len(setting.runs))]
    for mode in _MODES:
        cells += [_points(_accuracy(setting, mode)), *_gain(setting, mode)]
    return [*cells, "" if setting is best else _points(_against(setting, best), is_signed=True)]


def _accuracy(setting: Setting, mode: str) -> Interval | None:
    """Return the last accuracy that was measured, over the runs."""
    scores = [score for run in setting.runs if (score := _last(run).get(mode)) is not None]
    found = _over_runs([(score["value"], score["low"], score["high"]) for score in scores])
    # An accuracy is in [0, 1].
    return found and Interval(found.value, found.n, max(found.low, 0.0), min(found.high, 1.0))


def _last(run: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in run if name.endswith("_accuracy")]
    return dict(run[names[-1]]) if names else {}


def _gain(setting: Setting, mode: str) -> tuple[str, str]:
    """Return the change in accuracy by the last training step, and the largest p-value of the runs' tests."""
    last = [list(run["comparisons"].values())[-1] for run in setting.runs if run["comparisons"]]
    tests = [comparison[mode] for comparison in last if mode in comparison]
    gain = _over_runs([(test["difference"], test["low"], test["high"]) for test in tests])
    return _points(gain, is_signed=True), f"{max(test['p_value'] for test in tests):.1g}" if tests else ""


def _against(setting: Setting, best: Setting) -> Interval | None:
    """Return the differences in objective between runs with the same seed."""
    theirs = {_seed(run): run["objective"] for run in best.runs}
    differences = [
        run["objective"] - theirs[_seed(run)]
        for run in setting.runs
        if run["objective"] is not None and theirs.get(_seed(run)) is not None
    ]
    return _over_runs([(value, value, value) for value in differences])


def _seed(run: dict[str, Any]) -> str:
    return next((text for text in run["overrides"] if text.startswith(_SEED)), "")


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


def _note(settings: Sequence[Setting]) -> str:
    several = all(len(setting.runs) > 1 for setting in settings)
    over = "runs (Student's t)" if several else "runs (Student's t), or over problems if there is one run"
    return f"95 % intervals over {over}. Gain: change by the last training step."
