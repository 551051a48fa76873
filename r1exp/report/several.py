"""Builds the numbers and tables of a report of several runs: the ranked settings, and means over the runs of a setting.

The numbers are what `sweep-summary.json` holds, which is to several runs what summary.json is to one. Torch-free.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1exp.report.effects import effects_of, effects_table
from r1exp.report.numbers import Cell, Code, Number, Style, Table, interval_at, number_at
from r1exp.report.pareto import pareto_of, pareto_tables
from r1exp.report.race import race_of, race_tables
from r1exp.report.sections import REWARDS_NOTE, SEGMENTS_NOTE
from r1exp.report.shown import shown
from r1exp.report.sweep import ranking

Json = dict[str, Any]
_SHOWN_SEGMENTS = (
    "reward",
    "kl",
    "entropy",
    "completions/mean_length",
    "completions/clipped_ratio",
    "rewards/accuracies",
)


def code_of(index: int) -> str:
    """Return the letters that name a setting on the page: A to Z, then AA, AB, ..."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def label_of(setting: Mapping[str, Any]) -> str:
    """Return what distinguishes a setting from the others."""
    return " ".join(setting["overrides"]) or "defaults"


def numbers_of(summaries: Mapping[str, Json], folders: Mapping[str, Path], sweep: Path | None = None) -> Json:
    """Return the content of sweep-summary.json.

    Args:
        summaries: Name of a run -> its summary.
        folders: Name of a run -> its directory.
        sweep: The folder of the sweep that the runs are the members of.
    """
    placed = {name: summary | {"folder": str(folders[name])} for name, summary in summaries.items()}
    found = ranking(placed)
    effects = effects_of(list(placed.values()))
    for setting in found["settings"]:
        runs = [summaries[name]["steps"] for name in setting["runs"]]
        setting["segments"] = _joined(
            [{step: entry.get("segments", {}) for step, entry in run.items()} for run in runs]
        )
        setting["rewards"] = _joined(
            [{step: entry.get("rewards", {}) for step, entry in run.items()} for run in runs]
        )
    settings = [(each["overrides"], [summaries[name] for name in each["runs"]]) for each in found["settings"]]
    states: dict[str, int] = {}
    for summary in summaries.values():
        states[summary["state"]] = states.get(summary["state"], 0) + 1
    first = next(iter(summaries.values()), {})
    return {
        "name": first.get("name", ""),
        "states": states,
        **found,
        **({"pareto": pareto} if sweep is not None and (pareto := pareto_of(sweep, settings)) else {}),
        **({"race": race} if sweep is not None and (race := race_of(sweep)) else {}),
        **({"effects": effects} if effects else {}),
        "seconds": round(sum(summary.get("seconds", 0.0) for summary in summaries.values()), 3),
        "runs": dict(summaries),
    }


def _joined(runs: Sequence[Json]) -> Json:
    """Return step -> name -> part -> mean over the runs that have it."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for run in runs:
        for step, names in run.items():
            for name, parts in names.items():
                for part, value in parts.items():
                    found.setdefault(step, {}).setdefault(name, {}).setdefault(part, []).append(value)
    return {
        step: {
            name: {part: sum(values) / len(values) for part, values in parts.items()}
            for name, parts in names.items()
        }
        for step, names in found.items()
    }


def several_tables(numbers: Json) -> list[Table]:
    """Return the tables of several runs that have rows."""
    tables = [
        ranking_table(numbers),
        *race_tables(numbers),
        *pareto_tables(numbers),
        effects_table(numbers),
        segment_table(numbers),
        reward_table(numbers),
    ]
    tables += [run_table(numbers), health_table(numbers)]
    return [table for table in tables if table.rows]


def ranking_table(numbers: Json) -> Table:
    """Return the settings, best first, with accuracies, gains and differences from the first one."""
    reach = _reach(numbers)
    modes = list(
        dict.fromkeys(mode for setting in numbers["settings"] for mode in setting.get("accuracy", {}))
    )
    rows = []
    for index, setting in enumerate(numbers["settings"]):
        path = ("settings", str(index))
        cells: list[Cell] = [
            code_of(index),
            Code(label_of(setting)),
            _at(numbers, (*path, "num_runs"), "count"),
        ]
        for mode in modes:
            cells.append(_interval(numbers, (*path, "accuracy", mode), "percent"))
            cells.append(_interval(numbers, (*path, "gain", mode), "points", (-reach, reach)))
            cells.append(_at(numbers, (*path, "gain", mode, "p_holm"), "p"))
        cells.append(_interval(numbers, (*path, "against_best"), "points", (-reach, reach)))
        cells.append(_at(numbers, (*path, "against_best", "p_holm"), "p"))
        rows.append(tuple(cells))
    columns = ["", "setting", "runs"]
    for mode in modes:
        columns += [f"{mode} accuracy, %", f"gain, {mode}, points", f"p (Holm), {mode}"]
    return Table(
        "settings",
        "Settings, best first",
        (*columns, "against the first, points", "p (Holm)"),
        tuple(rows),
        numbers["note"],
    )


def _reach(numbers: Json) -> float:
    """Return the largest distance from 0 of a difference or of one of its bounds."""
    parts = [part for setting in numbers["settings"] for part in
             (*setting.get("gain", {}).values(), setting.get("against_best"))]  # fmt: skip
    return max((abs(part[end]) for part in parts if part for end in ("low", "high")), default=1.0)


def segment_table(numbers: Json) -> Table:
    """Return the segments of the main metrics, as means over the runs of a setting."""
    rows = []
    for index, setting in enumerate(numbers["settings"]):
        for step, metrics in setting["segments"].items():
            for metric in metrics:
                if metric not in _SHOWN_SEGMENTS:
                    continue
                known = shown(metric)
                path = ("settings", str(index), "segments", step, metric)
                parts = [_at(numbers, (*path, part)) for part in ("early", "mid", "end", "best")]
                rows.append((code_of(index), Code(step), known.title if known else metric, *parts))
    columns = ("setting", "step", "metric", "early", "mid", "end", "best")
    note = f"{SEGMENTS_NOTE} Of several runs, their mean."
    return Table("segments", "Early, mid and end of training", columns, tuple(rows), note)


def reward_table(numbers: Json) -> Table:
    """Return the anatomy of each reward, as means over the runs of a setting."""
    parts: list[tuple[str, Style]] = [
        ("weight", "plain"), ("mean", "plain"), ("variance_share", "percent"), ("abstained", "percent")
    ]  # fmt: skip
    rows = []
    for index, setting in enumerate(numbers["settings"]):
        for step, members in setting["rewards"].items():
            for member in members:
                path = ("settings", str(index), "rewards", step, member)
                cells = [_at(numbers, (*path, part), style) for part, style in parts]
                rows.append((code_of(index), Code(step), Code(member), *cells))
    columns = (
        "setting",
        "step",
        "reward",
        "weight",
        "mean score",
        "share of the variance, %",
        "abstained, %",
    )
    return Table("rewards", "What each reward gave", columns, tuple(rows), REWARDS_NOTE)


def run_table(numbers: Json) -> Table:
    """Return the runs with their state and time."""
    codes = {
        name: code_of(index) for index, setting in enumerate(numbers["settings"]) for name in setting["runs"]
    }
    rows: list[tuple[Cell, ...]] = []
    for name, summary in numbers["runs"].items():
        failed = next(
            (f"{step}: {entry['reason']}" for step, entry in summary["steps"].items() if entry.get("reason")),
            "",
        )
        reason = str(summary.get("reason") or failed)
        seconds = _at(numbers, ("runs", name, "seconds"), "seconds")
        objective = _at(numbers, ("runs", name, "objective"), "percent")
        own = [text for text in summary["overrides"] if text not in numbers["common"]]
        rows.append(
            (
                Code(name),
                codes.get(name, ""),
                summary["state"],
                objective,
                seconds,
                Code(" ".join(own)),
                reason,
            )
        )
    columns = ("run", "setting", "state", "objective, %", "seconds", "overrides", "reason")
    return Table("runs", "Runs", columns, tuple(rows))


def health_table(numbers: Json) -> Table:
    """Return the health rules that were broken in any run."""
    rows: list[tuple[Cell, ...]] = []
    for name, summary in numbers["runs"].items():
        for step, entry in summary["steps"].items():
            for index, event in enumerate(entry.get("health", [])):
                path = ("runs", name, "steps", step, "health", str(index), "step")
                at = Number(path, event["step"], "count")
                rows.append(
                    (
                        Code(name),
                        Code(step),
                        at,
                        Code(str(event.get("rule", ""))),
                        Code(str(event.get("sentence", ""))),
                    )
                )
    columns = ("run", "step", "optimizer step", "rule", "message")
    return Table("health", "Health rules that were broken", columns, tuple(rows))


def _at(numbers: Json, path: tuple[str, ...], style: Style = "plain") -> Cell:
    return number_at(numbers, path, style) or ""


def _interval(
    numbers: Json, path: tuple[str, ...], style: Style, scale: tuple[float, float] = (0.0, 1.0)
) -> Cell:
    return interval_at(numbers, path, style, scale=scale)
