"""Reports the Pareto front of a sweep with several objectives: the settings that no other setting beats in all of them. Torch-free.

Setting a beats setting b where a is at least as good in every objective and better in one, by the means over their runs. With runs of
several seeds an objective has its 95 % interval (Student's t); a setting next to the front may belong to it by luck, and the other way round.
"""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from r1exp.report.numbers import Cell, Code, Table, interval_at, number_at
from r1exp.report.objectives import DIRECTIONS, ONLY_ACCURACY, STYLES, UNITS, objectives_of, values_of
from r1exp.report.over_runs import t_over

Json = dict[str, Any]
Settings = Sequence[
    tuple[Sequence[str], Sequence[Mapping[str, Any]]]
]  # overrides, and the summaries of the runs
_WIDTH, _HEIGHT, _LEFT, _BELOW, _MARGIN = 480, 320, 58, 44, 14  # pixels of the figure
_COLORS = ("#0072B2", "#767676")  # on the front, and not


def pareto_of(sweep: Path, settings: Settings) -> Json:
    """Return the points of a sweep with several objectives, those on the front first; empty with one objective.

    Args:
        sweep: The folder of the sweep.
        settings: Its settings with their runs.
    """
    names = objectives_of(sweep)
    if names == ONLY_ACCURACY:
        return {}
    points = []
    for overrides, runs in settings:
        values = [found for run in runs if (found := values_of(run, names)) is not None]
        if values:
            columns = zip(names, zip(*values, strict=True), strict=True)
            points.append({
                "overrides": list(overrides), "num_runs": len(values),
                "values": {name: _measured(column) for name, column in columns},
            })  # fmt: skip
    better = [[_signed(point, name) for name in names] for point in points]
    for point, own in zip(points, better, strict=True):
        point["on_front"] = not any(_beats(other, own) for other in better)
    points.sort(key=lambda point: (not point["on_front"], -_signed(point, names[0])))
    return {"objectives": {name: DIRECTIONS[name] for name in names}, "points": points}


def _measured(values: Sequence[float]) -> Json:
    mean = sum(values) / len(values)
    found = t_over(list(values)) if len(values) > 1 else None
    return {"value": mean} | (
        {} if found is None else {"low": found.interval.low, "high": found.interval.high}
    )


def _signed(point: Mapping[str, Any], name: str) -> float:
    value = float(point["values"][name]["value"])
    return value if DIRECTIONS[name] == "maximize" else -value


def _beats(other: Sequence[float], own: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(other, own, strict=True)) and list(other) != list(own)


def pareto_tables(numbers: Mapping[str, Any]) -> list[Table]:
    """Return the table of the points; none with one objective.

    Args:
        numbers: With what `pareto_of` returns as `pareto`.
    """
    found = numbers.get("pareto")
    if not found or not found["points"]:
        return []
    rows: list[tuple[Cell, ...]] = []
    for index, point in enumerate(found["points"]):
        path = ("pareto", "points", str(index))
        cells = [interval_at(numbers, (*path, "values", name), STYLES[name]) for name in found["objectives"]]
        on_front = "on the front" if point["on_front"] else "beaten"
        rows.append(
            (Code(_label(point)), number_at(numbers, (*path, "num_runs"), "count") or "", *cells, on_front)
        )
    heads = [f"{name}, {UNITS[name]} ({direction})" for name, direction in found["objectives"].items()]
    note = (
        "On the front: no other setting is at least as good in every objective and better in one, by the means. With several runs of a setting: 95 % intervals "
        "(Student's t over the runs); what is on the front is in part luck."
    )
    return [Table("pareto", "Pareto front", ("setting", "runs", *heads, "front"), tuple(rows), note)]


def pareto_lines(sweep: Path, settings: Settings) -> list[str]:
    """Return the section of the report of a sweep as Markdown lines; none with one objective."""
    numbers = {"pareto": pareto_of(sweep, settings)}
    lines: list[str] = []
    for table in pareto_tables(numbers):
        lines += ["", f"## {table.title}", ""]
        lines += ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
        lines += ["| " + " | ".join(_text(cell) for cell in row) + " |" for row in table.rows]
        lines += ["", table.note]
    return lines


def pareto_figure(numbers: Mapping[str, Any]) -> str:
    """Return the points and the front as SVG, the first objective over the second; empty with fewer than two."""
    found = numbers.get("pareto")
    if not found or not found["points"] or len(found["objectives"]) < 2:
        return ""
    names = list(found["objectives"])[1::-1]  # x, y
    points = [[_shown(point, name) for name in names] for point in found["points"]]
    lows = [min(point[axis] for point in points) for axis in (0, 1)]
    highs = [max(point[axis] for point in points) for axis in (0, 1)]
    spans = [(high - low) or 1.0 for low, high in zip(lows, highs, strict=True)]
    places = [
        (_LEFT + _MARGIN + (x - lows[0]) / spans[0] * (_WIDTH - _LEFT - 3 * _MARGIN),
         _HEIGHT - _BELOW - _MARGIN - (y - lows[1]) / spans[1] * (_HEIGHT - _BELOW - 3 * _MARGIN))
        for x, y in points
    ]  # fmt: skip
    parts = [_axes(names, lows, highs)]
    front = sorted(place for place, point in zip(places, found["points"], strict=True) if point["on_front"])
    parts += [
        f'<path d="M{x:.1f} {y:.1f}L{to:.1f} {up:.1f}" stroke="{_COLORS[0]}" stroke-dasharray="4 3"/>'
        for (x, y), (to, up) in pairwise(front)
    ]
    for (x, y), point in zip(places, found["points"], strict=True):
        color = _COLORS[0 if point["on_front"] else 1]
        shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{color if point["on_front"] else "none"}" stroke="{color}"/>'
        parts.append(f"<g>{shape}<title>{escape(_label(point))}</title></g>")
    title = escape(f"{names[1]} over {names[0]}; filled: on the Pareto front")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{title}" font-family="sans-serif" font-size="12" fill="none"><title>{title}</title>{"".join(parts)}</svg>\n'
    )


def _axes(names: Sequence[str], lows: Sequence[float], highs: Sequence[float]) -> str:
    bottom, right = _HEIGHT - _BELOW, _WIDTH - _MARGIN
    marks = [
        (_LEFT + _MARGIN, bottom + 16, "middle", f"{lows[0]:.4g}"), (right - _MARGIN, bottom + 16, "middle", f"{highs[0]:.4g}"),
        ((_LEFT + right) / 2, bottom + 34, "middle", f"{names[0]}, {UNITS[names[0]]}"),
        (_LEFT - 6, bottom - _MARGIN + 4, "end", f"{lows[1]:.4g}"), (_LEFT - 6, 2 * _MARGIN + 4, "end", f"{highs[1]:.4g}"),
        (_LEFT + 4, 12, "start", f"{names[1]}, {UNITS[names[1]]}"),
    ]  # fmt: skip
    texts = "".join(
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="#767676">{escape(text)}</text>'
        for x, y, anchor, text in marks
    )
    return f'<path d="M{_LEFT} {_MARGIN}V{bottom}H{right}" stroke="#767676"/>{texts}'


def _shown(point: Mapping[str, Any], name: str) -> float:
    return float(point["values"][name]["value"]) * (100.0 if STYLES[name] == "percent" else 1.0)


def _label(point: Mapping[str, Any]) -> str:
    return " ".join(point["overrides"]) or "defaults"


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell.text
