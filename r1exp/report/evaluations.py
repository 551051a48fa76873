"""The evaluations of a run by suite: what summary.json has of them, their comparisons, and the table that a run prints.

The table has the facts of [gemma-grpo]'s evaluation script (tokens of prompts and answers, correct format, plausibly
correct, exactly correct), a row for each measured model and decoding, and pass@k and its like for the largest k. Torch-free.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from r1exp.evaluation.harness_results import DECODING
from r1exp.evaluation.outcomes import compare, compare_by_errors
from r1exp.report.measurements import Measurement

_RATES = {
    "format": "correct format",
    "plausible": "plausibly correct",
    "exact": "exact correct",
    "mixing": "mixed languages",
    "cut_off": "cut off",
}
_TOKENS = {
    "input_tokens_mean": "input tokens avg",
    "input_tokens_max": "input tokens max",
    "output_tokens_mean": "output tokens avg",
    "output_tokens_max": "output tokens max",
}
_OF_K = ("pass", "cons", "best")
Table = list[list[str]]  # rows of cells; the first has the names of the columns


def evaluations_of(measured: Sequence[Measurement]) -> dict[str, Any]:
    """Return label -> suite -> decoding -> metric: value, n, low and high of a rate, or a number."""
    return {
        measurement.label: {name: suite["metrics"] for name, suite in measurement.suites.items()}
        for measurement in measured
    }


def comparisons_of(before: Measurement, after: Measurement) -> dict[str, Any]:
    """Return the paired differences of two measurements, by name and decoding; those on other problems are left out.

    The first suite's is named after the labels alone; a further one's also after the suite.
    """
    found: dict[str, Any] = {}
    name = f"{after.label} - {before.label}"
    for position, (suite, content) in enumerate(after.suites.items()):
        earlier = before.suites.get(suite)
        if earlier is None or earlier["problem_ids"] != content["problem_ids"]:
            continue
        of_harness = DECODING in content["metrics"]
        tests = _compared_tasks(earlier, content) if of_harness else _compared(earlier, content)
        found[name if position == 0 and not of_harness else f"{name}, {suite}"] = tests
    return found


def _compared(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {
        mode: compare(before["outcomes"][mode], after["outcomes"][mode])
        for mode in after["outcomes"]
        if mode in before["outcomes"]
    }


def _compared_tasks(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return the differences of a harness's task by metric: of outcomes paired, else from the standard errors."""
    found = _compared(before, after)
    earlier, later = before["metrics"][DECODING], after["metrics"][DECODING]
    for name in later:
        test = None if name in found or name not in earlier else compare_by_errors(earlier[name], later[name])
        found |= {} if test is None else {name: test}
    return found


def tables(summary: Mapping[str, Any]) -> Iterator[tuple[str, Table]]:
    """Yield each suite with its table, and the tasks of a harness in one table."""
    evaluations: Mapping[str, Any] = summary.get("evaluations", {})
    for suite in dict.fromkeys(name for suites in evaluations.values() for name in suites):
        rows = {
            (label, mode): metrics
            for label, suites in evaluations.items()
            for mode, metrics in suites.get(suite, {}).items()
            if "output_tokens_mean" in metrics
        }
        if rows:
            problems = next(iter(rows.values()))["accuracy"]["n"]
            yield f"{suite}, {problems} problems", _table(rows)
    tasks = _tasks(evaluations)
    if len(tasks) > 1:
        yield "of the harness", tasks


def _tasks(evaluations: Mapping[str, Any]) -> Table:
    found = [["task", "model", "metric", "value", "standard error", "problems"]]
    for label, suites in evaluations.items():
        for suite, modes in suites.items():
            for metric, value in modes.get(DECODING, {}).items():
                error = "-" if value["stderr"] is None else f"{value['stderr']:.4f}"
                found.append([suite, label, metric, f"{value['value']:.4f}", error, str(value["n"])])
    return found


def _table(rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> Table:
    most = [f"{name}@{max(metrics['samples'] for metrics in rows.values())}" for name in _OF_K]
    shown = [name for name in (*_TOKENS, *_RATES, *most) if any(name in metrics for metrics in rows.values())]
    names = _TOKENS | _RATES
    found = [["model", "decoding", *(names.get(name, name) for name in shown)]]
    for (label, mode), metrics in rows.items():
        found.append([label, mode, *(_cell(metrics.get(name)) for name in shown)])
    return found


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return f"{100 * value['value']:.1f} %"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def as_lines(table: Table) -> list[str]:
    """Return a table for a terminal; the names of columns take two lines where they have several words."""
    upper, lower = zip(*(_two_lines(cell) for cell in table[0]), strict=True)
    rows = [list(upper), list(lower), *table[1:]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:<{width}}" if position < 2 else f"{cell:>{width}}"
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _two_lines(name: str) -> tuple[str, str]:
    first, _, last = name.rpartition(" ")
    return first, last


def as_markdown(table: Table) -> list[str]:
    """Return the lines of a Markdown table."""
    head, *rows = table
    return [_line(head), "|---" * len(head) + "|", *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"  # a task of lighteval: sums|0
