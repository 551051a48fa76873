"""Ranks the settings of a sweep in a table: one row for each setting, best first; the runs of a setting are its seeds.

With several runs of a setting, an interval holds the luck of problems, sampling and training seeds; with one run that of
problems and sampling (r1exp/report/over_runs.py). The note below the table says which. p-values of a column are corrected
for their number (Holm).

Settings are ranked by the mean objective over the seeds that all of them have, so that the order agrees with the
column of paired differences. Without such a seed they are ranked by the mean over their own runs, which is said.
Torch-free.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from r1exp.errors import Refused
from r1exp.files import read_json_object, write_text
from r1exp.paths import RunPaths, SweepPaths
from r1exp.plan.run_plan import LEFT_OUT, read_plan
from r1exp.report.effects import effects_of, effects_table
from r1exp.report.export import markdown_of
from r1exp.report.forks import fork_note
from r1exp.report.over_runs import PROBLEMS, SAMPLING, SEEDS, Figure, accuracy_over, difference_over, t_over
from r1exp.report.pareto import pareto_lines
from r1exp.report.race import race_lines
from r1exp.report.summary import summarize
from r1exp.report.sweep_table import rows_of
from r1exp.statistics.intervals import Interval
from r1exp.statistics.several import holm

_MODES = ("sampled", "greedy")
_MOST_COMPARED = 500  # settings whose outcomes are compared with those of the first; a comparison takes 10 ms
_KEYS = frozenset({"state", "objective", "overrides", "comparisons"})
_FORKED = "fork.run"  # forks of several runs: what each of them has in common with its siblings
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
        if step["state"] not in ("done", "planned", LEFT_OUT):
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
    figures = _figures(settings, seeds)
    lines += [*_table(settings, figures), "", _note(settings, seeds, figures)]
    lines += pareto_lines(folder, [(setting.overrides, setting.runs) for setting in settings])
    lines += race_lines(folder)
    effects = effects_table({"effects": effects_of(done)})
    if effects.rows:
        lines += ["", f"## {effects.title}", "", markdown_of(effects).rstrip(), "", effects.note]
    if common:
        lines += ["", f"Every run: `{' '.join(text for text in done[0]['overrides'] if text in common)}`"]
    return "\n".join(lines) + "\n"


def _summary(path: Path) -> dict[str, Any]:
    """Return the content of a summary; of one that is damaged, what the steps of the run have written."""
    run = path.parent
    content = read_json_object(path)
    if content:
        return content | {"folder": str(run)}
    try:
        return summarize(read_plan(run), run) | {"folder": str(run)}
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
    return key in ("seed", _FORKED) or _STEP_SEED.fullmatch(key) is not None


def _seeds(run: dict[str, Any]) -> Seeds:
    return tuple(text for text in run["overrides"] if _is_seed(text))


def _common_seeds(settings: Sequence[Setting]) -> set[Seeds]:
    """Return the seeds for which every setting has an objective; settings without any objective do not count."""
    found = [set(setting.objectives()) for setting in settings if setting.objectives()]
    return set.intersection(*found) if found else set()


@dataclass(frozen=True)
class _Figures:
    """The figures of a table, one for each setting."""

    accuracies: dict[str, list[Figure | None]]  # by decoding
    gains: dict[str, list[Figure | None]]
    against: list[Figure | None]  # differences from the first setting


def _figures(settings: Sequence[Setting], seeds: set[Seeds]) -> _Figures:
    others = enumerate(settings[1:], start=1)
    return _Figures(
        accuracies={mode: [_accuracy(setting, mode) for setting in settings] for mode in _MODES},
        gains={mode: [_gain(setting, mode) for setting in settings] for mode in _MODES},
        against=[
            None,
            *(_against(setting, settings[0], seeds, rank < _MOST_COMPARED) for rank, setting in others),
        ],
    )


def _table(settings: Sequence[Setting], figures: _Figures) -> list[str]:
    heads = ["setting", "runs"]
    columns = [[" ".join(setting.overrides) or "defaults" for setting in settings]]
    columns.append([str(len(setting.runs)) for setting in settings])
    for mode in _MODES:
        heads += [f"{mode}, %", f"gain, {mode}", "p (Holm)"]
        columns.append([_points(_interval(each)) for each in figures.accuracies[mode]])
        gains = figures.gains[mode]
        columns += [[_points(_interval(gain), is_signed=True) for gain in gains], _corrected(gains)]
    heads += ["objective, against the first row", "p (Holm)"]
    against = figures.against
    columns += [[_points(_interval(each), is_signed=True) for each in against], _corrected(against)]
    rows = zip(*columns, strict=True)
    return ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows)]


def _interval(figure: Figure | None) -> Interval | None:
    return None if figure is None else figure.interval


def _corrected(figures: Sequence[Figure | None]) -> list[str]:
    """Return the cells of a column's p-values."""
    return ["" if p_value is None else f"{p_value:.1g}" for p_value in _holm(figures)]


def _holm(figures: Sequence[Figure | None]) -> list[float | None]:
    """Return the p-values of a column, corrected for their number; None where there is none."""
    p_values = [None if figure is None else figure.p_value for figure in figures]
    corrected = iter(holm([p_value for p_value in p_values if p_value is not None]))
    return [None if p_value is None else next(corrected) for p_value in p_values]


def _accuracy(setting: Setting, mode: str) -> Figure | None:
    """Return the accuracy of the focus step's model, over the runs."""
    measured = [run for run in setting.runs if run["objective"] is not None]
    return accuracy_over(measured, _label(measured[0]), mode) if measured else None


def _label(run: dict[str, Any]) -> str:
    """Return the label of the accuracy that is the objective."""
    return str(run["objective_of"]).partition(" ")[0]


def _gain(setting: Setting, mode: str) -> Figure | None:
    """Return the change in accuracy by the focus step."""
    sides: tuple[list[Any], list[Any]] = ([], [])
    tests = []
    for run in setting.runs:
        if run["objective"] is None:
            continue
        for name, comparison in run["comparisons"].items():
            if name.startswith(f"{_label(run)} - ") and mode in comparison:
                sides[0].append((run, name.removeprefix(f"{_label(run)} - ")))
                sides[1].append((run, _label(run)))
                tests.append(comparison[mode])
    if not tests:
        return None
    if len(tests) == 1:  # the run's own test
        test = tests[0]
        interval = Interval(test["difference"], 1, test["low"], test["high"])
        return Figure(interval, (PROBLEMS, SAMPLING), test["p_value"])
    return difference_over(*sides, mode) or t_over([test["difference"] for test in tests])


def _against(
    setting: Setting, best: Setting, seeds: set[Seeds], reads_outcomes: bool = True
) -> Figure | None:
    """Return the differences in objective between runs with the same seed, over the seeds of all settings."""
    ours, theirs = setting.objectives(), best.objectives()
    shared = [seed for seed in sorted(seeds) if seed in ours and seed in theirs]
    if not shared:
        return None
    sides = [_runs_with(each, shared) for each in (best, setting)]
    modes = {str(run["objective_of"]).partition(" ")[2] for side in sides for run in side}
    if reads_outcomes and len(modes) == 1 and len(sides[0]) == len(sides[1]) == len(shared):
        pairs = [[(run, _label(run)) for run in side] for side in sides]
        found = difference_over(pairs[0], pairs[1], modes.pop())
        if found is not None:
            return found
    differences = [ours[seed] - theirs[seed] for seed in shared]
    if len(differences) == 1:
        return Figure(Interval(differences[0], 1, differences[0], differences[0]), ())
    return t_over(differences)


def _runs_with(setting: Setting, seeds: Sequence[Seeds]) -> list[dict[str, Any]]:
    """Return the runs with an objective and one of the seeds, in the order of the seeds."""
    return [
        run for seed in seeds for run in setting.runs if _seeds(run) == seed and run["objective"] is not None
    ]


def _points(interval: Interval | None, is_signed: bool = False) -> str:
    if interval is None:
        return ""
    sign = "+" if is_signed else ""
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in (interval.value, interval.low, interval.high))
    return mean if low == high == mean else f"{mean} [{low}, {high}]"


def _note(settings: Sequence[Setting], seeds: set[Seeds], figures: _Figures) -> str:
    forks = fork_note([run for setting in settings for run in setting.runs])
    note = " ".join(filter(None, (forks, "95 % intervals. Gain: change by the focus step.")))
    for name, column in (
        ("accuracies", list(chain(*figures.accuracies.values()))),
        ("gains", list(chain(*figures.gains.values()))),
        ("the differences from the first row", figures.against),
    ):
        held = sorted({figure.holds for figure in column if figure is not None}, key=len)
        if held:
            ways = "; or ".join(_held(holds) for holds in held)
            note += f" The intervals of {name} hold the luck of {ways}."
    if len(settings) > 1:
        note += " p-values are corrected for the number of comparisons in their column (Holm)."
    if len(settings) == 1:
        return note
    if not seeds:
        return f"{note} Ranked by the mean over each setting's own runs, because no seed is common to all settings."
    if any(set(setting.objectives()) - seeds for setting in settings):
        names = ", ".join(" ".join(seed) or "the default seed" for seed in sorted(seeds))
        note += f" Ranked and compared on what every setting has: {names}."
    return note


def _held(holds: Sequence[str]) -> str:
    """Return the luck that an interval holds, and what it does not hold, as words."""
    if not holds:
        return f"nothing, and are not shown (one run, without kept outcomes or below row {_MOST_COMPARED})"
    words = " and ".join([", ".join(holds[:-1]), holds[-1]])
    if SEEDS not in holds:
        return f"{words}, but not of training seeds (one run)"
    return words if PROBLEMS in holds else f"{words}, but not of problems (Student's t over the runs)"


def ranking(runs: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the settings of runs as JSON, ranked as in the table of `sweep_report`; those without a finished run are last.

    Args:
        runs: Name -> summary, with the `folder` of the run, in which outcomes are read.

    Returns:
        `common`, the overrides of all runs; `note`; and `settings`, each with `overrides`, `runs` (names) and `num_runs` (finished),
        and where these have an objective with `objective`, `accuracy` and `gain` (decoding -> interval), and `against_best`, the
        difference from the first one. A `p_holm` is corrected for the number of comparisons among the settings.
    """
    common = set.intersection(*(set(run["overrides"]) for run in runs.values())) if runs else set()
    names = {id(run): name for name, run in runs.items()}
    settings = _settings(list(runs.values()), common)
    done = [
        Setting(setting.overrides, finished)
        for setting in settings
        if (finished := tuple(run for run in setting.runs if run["state"] == "done"))
    ]
    seeds = _common_seeds(done)
    done.sort(key=lambda setting: setting.mean_objective(seeds), reverse=True)
    figures = _figures(done, seeds) if done else None
    rows: dict[tuple[str, ...], dict[str, Any]] = {setting.overrides: {} for setting in done}
    for setting in settings:
        mine = {
            "overrides": list(setting.overrides),
            "runs": [names[id(run)] for run in setting.runs],
            "num_runs": 0,
        }
        rows[setting.overrides] = mine
    for rank, setting in enumerate(done):
        row = rows[setting.overrides]
        row["num_runs"] = len(setting.runs)
        if figures is None or not setting.objectives():
            continue
        row["objective"] = setting.mean_objective(seeds)
        row["accuracy"] = {
            mode: found for mode in _MODES if (found := _json_of(figures.accuracies[mode], rank))
        }
        row["gain"] = {mode: found for mode in _MODES if (found := _json_of(figures.gains[mode], rank))}
        if against := _json_of(figures.against, rank):
            row["against_best"] = against
    every = next(iter(runs.values()))["overrides"] if runs else []
    note = _note(done, seeds, figures) if figures else ""
    return {
        "common": [text for text in every if text in common],
        "note": note,
        "settings": list(rows.values()),
    }


def _json_of(column: Sequence[Figure | None], rank: int) -> dict[str, Any]:
    """Return a figure of a column of the table as JSON, with its p-value corrected for the number of those in the column; empty without one."""
    figure = column[rank]
    if figure is None:
        return {}
    p_value = _holm(column)[rank]
    return (
        asdict(figure.interval)
        | {"holds": list(figure.holds)}
        | ({} if p_value is None else {"p_holm": p_value})
    )
