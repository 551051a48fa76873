"""Which setting of a sweep is better? One row a setting, best first, its runs being the seeds.

With several runs of a setting an interval is Student's t over their figures: it holds the luck of training
as well as that of the problems. With one run it is the run's own, over problems alone. `p at most` is the
largest p of the runs' paired tests on the same problems. Torch-free.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1exp.errors import Refused
from r1exp.files import read_json, write_text
from r1exp.statistics.intervals import Interval, mean_interval

FILE = "report.md"
_MODES = ("sampled", "greedy")
_SEED = "seed="


@dataclass(frozen=True)
class Setting:
    """The runs that differ in nothing but the seed."""

    words: tuple[str, ...]
    runs: tuple[dict[str, Any], ...]  # summaries

    @property
    def objective(self) -> float:
        """The mean of what a sweeper maximizes; below every share where nothing was measured."""
        values = [run["objective"] for run in self.runs if run["objective"] is not None]
        return sum(values) / len(values) if values else -1.0


def sweep_report(folder: Path) -> str:
    """Return the table of a sweep's finished runs, and leave it in `<folder>/report.md`.

    Raises:
        Refused: no run below `folder` came to its end.
    """
    found = [read_json(path) for path in sorted(folder.glob("*/summary.json"))]
    done = [run for run in found if run["state"] == "done"]
    if not done:
        raise Refused(f"no run of {folder} came to its end; `r1exp sweep status {folder}` says how they are")
    common = set.intersection(*(set(run["overrides"]) for run in done))
    settings = sorted(_settings(done, common), key=lambda setting: setting.objective, reverse=True)
    lines = [f"# {done[0]['name']}: {len(done)} runs", ""]
    if left_out := len(found) - len(done):
        runs = "1 run is" if left_out == 1 else f"{left_out} runs are"
        lines += [f"{runs} left out for not having come to an end.", ""]
    lines += [*_table(settings), "", _note(settings)]
    if common:
        lines += ["", f"Every run: `{' '.join(word for word in done[0]['overrides'] if word in common)}`"]
    text = "\n".join(lines) + "\n"
    write_text(folder / FILE, text)
    return text


def _settings(runs: Sequence[dict[str, Any]], common: set[str]) -> list[Setting]:
    grouped: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for run in runs:
        own = [word for word in run["overrides"] if word not in common and not word.startswith(_SEED)]
        grouped.setdefault(tuple(own), []).append(run)
    return [Setting(words, tuple(members)) for words, members in grouped.items()]


def _table(settings: Sequence[Setting]) -> list[str]:
    heads = ["setting", "runs"]
    for mode in _MODES:
        heads += [f"{mode}, %", f"gain, {mode}", "p at most"]
    heads.append("sampled, against the first row")
    rows = [_row(setting, settings[0]) for setting in settings]
    return ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows)]


def _row(setting: Setting, best: Setting) -> list[str]:
    cells = [" ".join(setting.words) or "as it is", str(len(setting.runs))]
    for mode in _MODES:
        cells += [_points(_accuracy(setting, mode)), *_gain(setting, mode)]
    return [*cells, "" if setting is best else _points(_against(setting, best), is_signed=True)]


def _accuracy(setting: Setting, mode: str) -> Interval | None:
    """Return the last accuracy that was measured."""
    scores = [score for run in setting.runs if (score := _last(run).get(mode)) is not None]
    found = _over_runs([(score["value"], score["low"], score["high"]) for score in scores])
    return found and Interval(
        found.value, found.n, max(found.low, 0.0), min(found.high, 1.0)
    )  # it is a share


def _last(run: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in run if name.endswith("_accuracy")]
    return dict(run[names[-1]]) if names else {}


def _gain(setting: Setting, mode: str) -> tuple[str, str]:
    """Return what the last measured step changed, and the largest p of the runs' tests."""
    last = [list(run["comparisons"].values())[-1] for run in setting.runs if run["comparisons"]]
    tests = [comparison[mode] for comparison in last if mode in comparison]
    gain = _over_runs([(test["difference"], test["low"], test["high"]) for test in tests])
    return _points(gain, is_signed=True), f"{max(test['p_value'] for test in tests):.1g}" if tests else ""


def _against(setting: Setting, best: Setting) -> Interval | None:
    """Return the difference of the objectives of runs with the same seed."""
    theirs = {_seed(run): run["objective"] for run in best.runs}
    differences = [
        run["objective"] - theirs[_seed(run)]
        for run in setting.runs
        if run["objective"] is not None and theirs.get(_seed(run)) is not None
    ]
    return _over_runs([(value, value, value) for value in differences])


def _seed(run: dict[str, Any]) -> str:
    return next((word for word in run["overrides"] if word.startswith(_SEED)), "")


def _over_runs(figures: Sequence[tuple[float, float, float]]) -> Interval | None:
    """Return the mean of (value, low, high) over runs; of a single run, its own interval."""
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
    over = "runs (Student's t)" if several else "runs (Student's t), or over problems where there is one run"
    return f"Intervals of 95 % over {over}. Gain: the last training step against what it started from."
