"""Builds the tables of a report of one run from its summary. Torch-free."""

from collections.abc import Mapping, Sequence
from typing import Any

from r1exp.report.dropped import dropped_table, examples_table
from r1exp.report.numbers import Cell, Code, Interval, Number, Style, Table, interval_at, number_at
from r1exp.report.shown import shown

Json = Mapping[str, Any]
SEGMENTS_NOTE = "Early, mid and end: means over the first, second and last third of the logged optimizer steps. Best: the largest logged value."
REWARDS_NOTE = (
    "Means over the logged optimizer steps. Share of the variance: how much of the variance of the total within a group "
    "comes from this reward. Abstained: share of completions without a score."
)
_SEGMENTS = ("early", "mid", "end", "best")


def run_tables(summary: Json) -> list[Table]:
    """Return the tables of a run that have rows."""
    tables = [accuracy_table(summary), measures_table(summary), difference_table(summary)]
    tables += [step_table(summary), dropped_table(summary), examples_table(summary)]
    tables += [segment_table(summary), reward_table(summary), health_table(summary)]
    return [table for table in tables if table.rows]


def accuracy_table(summary: Json) -> Table:
    """Return the accuracies with their intervals."""
    rows: list[tuple[Cell, ...]] = []
    for key, modes in summary.items():
        if key.endswith("_accuracy"):
            for mode in modes:
                problems = number_at(summary, (key, mode, "n"), "count") or ""
                cell = interval_at(summary, (key, mode), "percent")
                rows.append((Code(key.removesuffix("_accuracy")), mode, cell, problems))
    columns = ("model", "decoding", "accuracy, %", "problems")
    return Table("accuracy", "Accuracy on held-out problems", columns, tuple(rows), "Intervals: 95 %.")


def measures_table(summary: Json) -> Table:
    """Return everything that the evaluations measured, by suite."""
    rows: list[tuple[Cell, ...]] = []
    for label, suites in summary.get("evaluations", {}).items():
        for suite, modes in suites.items():
            for mode, metrics in modes.items():
                for metric, value in metrics.items():
                    path = ("evaluations", label, suite, mode, metric)
                    is_rate = isinstance(value, Mapping)
                    cell = interval_at(summary, path, "percent") if is_rate else number_at(summary, path)
                    unit = "%" if is_rate else ""
                    rows.append((Code(label), suite, mode, metric.replace("_", " "), cell or "", unit))
    columns = ("model", "suite", "decoding", "measure", "value", "unit")
    return Table("measures", "Everything that was measured", columns, tuple(rows), "Intervals: 95 %.")


def difference_table(summary: Json) -> Table:
    """Return the paired differences between evaluations."""
    reach = max(
        (abs(test[end]) for tests in summary["comparisons"].values() for test in tests.values()
         if isinstance(test, Mapping) and "low" in test for end in ("low", "high")),
        default=1.0,
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for name, tests in summary["comparisons"].items():
        for mode in tests:
            path = ("comparisons", name, mode)
            parts: list[tuple[str, Style]] = [
                ("only_after", "count"),
                ("only_before", "count"),
                ("p_value", "p"),
                ("p_holm", "p"),
            ]
            others = [number_at(summary, (*path, part), style) or "" for part, style in parts]
            cell = interval_at(summary, path, "points", "difference", (-reach, reach))
            rows.append((Code(name), mode, cell, *others))
    columns = ("difference", "decoding", "points", "problems won", "problems lost", "p", "p (Holm)")
    return Table(
        "differences", "Differences on the same problems", columns, tuple(rows),
        "Points: percentage points with their 95 % interval. p: two-sided paired test on the problems; p (Holm) is corrected for the number of "
        "comparisons in the table. The intervals hold the luck of problems and sampling, not that of training: another seed may train another model.",
    )  # fmt: skip


def step_table(summary: Json) -> Table:
    """Return state and time of each step, and its memory where it was measured."""
    rows = []
    for name, entry in summary["steps"].items():

        def number(*path: str, style: Style = "seconds", name: str = name) -> Number | str:
            return number_at(summary, ("steps", name, *path), style) or ""

        origin = f"reused from {entry['reused_from']}" if "reused_from" in entry else ""
        reason = str(entry.get("reason", ""))
        kept = entry.get("kept")
        chosen = (
            f"its model is that of optimizer step {kept['optimizer_step']}: {kept['rule']}" if kept else ""
        )
        rows.append((
            Code(name), entry["state"], number("seconds"), number("timing", "optimizer_steps", style="count"),
            number("timing", "mean_seconds"), number("timing", "max_seconds"),
            number("memory", "host_gib", style="plain"), number("memory", "device_gib", style="plain"),
            "; ".join(part for part in (origin, chosen, reason) if part),
        ))  # fmt: skip
    columns = (
        "step", "state", "seconds", "optimizer steps", "seconds each", "longest",
        "host memory, GiB", "device memory, GiB", "note",
    )  # fmt: skip
    return _without_empty_columns(Table("steps", "Time and memory by step", columns, tuple(rows)))


def segment_table(summary: Json) -> Table:
    """Return the segments of the metrics of each training step."""
    rows: list[tuple[Cell, ...]] = []
    for name, entry in summary["steps"].items():
        for metric in entry.get("segments", {}):
            known = shown(metric)
            parts = [
                number_at(summary, ("steps", name, "segments", metric, part)) or "" for part in _SEGMENTS
            ]
            rows.append((Code(name), known.title if known else metric, *parts))
    columns = ("step", "metric", "early", "mid", "end", "best")
    return Table("segments", "Early, mid and end of training", columns, tuple(rows), SEGMENTS_NOTE)


def reward_table(summary: Json) -> Table:
    """Return the anatomy of each reward."""
    rows: list[tuple[Cell, ...]] = []
    parts: list[tuple[str, Style]] = [
        ("weight", "plain"), ("mean", "plain"), ("variance_share", "percent"), ("abstained", "percent")
    ]  # fmt: skip
    for name, entry in summary["steps"].items():
        for member in entry.get("rewards", {}):
            path = ("steps", name, "rewards", member)
            rows.append((
                Code(name), Code(member), *(number_at(summary, (*path, part), style) or "" for part, style in parts)
            ))  # fmt: skip
    columns = ("step", "reward", "weight", "mean score", "share of the variance, %", "abstained, %")
    return Table("rewards", "What each reward gave", columns, tuple(rows), REWARDS_NOTE)


def health_table(summary: Json) -> Table:
    """Return the health rules that were broken."""
    rows: list[tuple[Cell, ...]] = []
    for name, entry in summary["steps"].items():
        for index, event in enumerate(entry.get("health", [])):
            at = Number(("steps", name, "health", str(index), "step"), event["step"], "count")
            value = event.get("value")
            known = isinstance(value, int | float)
            path = ("steps", name, "health", str(index), "value")
            rows.append((
                Code(name), at, Code(str(event.get("rule", ""))), Number(path, value) if known else "",
                str(event.get("action", "")), Code(str(event.get("sentence", ""))),
            ))  # fmt: skip
    columns = ("step", "optimizer step", "rule", "value", "action", "message")
    return Table("health", "Health rules that were broken", columns, tuple(rows))


def _without_empty_columns(table: Table) -> Table:
    kept = [index for index in range(len(table.columns)) if any(row[index] != "" for row in table.rows)]
    return Table(
        table.name, table.title, tuple(table.columns[index] for index in kept),
        tuple(tuple(row[index] for index in kept) for row in table.rows), table.note,
    )  # fmt: skip


def intervals_in(tables: Sequence[Table]) -> list[Interval]:
    """Return the intervals of tables, in order."""
    return [cell for table in tables for row in table.rows for cell in row if isinstance(cell, Interval)]
