"""Estimates main effects and two-way interactions of the factors of a sweep, on accuracy, length and format.

The factors are those of `<sweep>/design.json`, which a sweep over two or more keys writes; the values are read from the answers of
each run's objective. Statistics: r1exp/statistics/effects.py. Torch-free.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from r1exp.files import read_json_object
from r1exp.paths import ArtifactPaths, SweepPaths
from r1exp.report.numbers import Cell, Style, Table, interval_at, number_at
from r1exp.statistics.effects import Contrast, Effect, Fit
from r1exp.statistics.several import holm

Json = dict[str, Any]
MEASURES: dict[str, tuple[str, Style]] = {  # measure -> its title, and how it is written
    "accuracy": ("accuracy, points", "points"),
    "tokens": ("tokens of an answer", "plain"),
    "format": ("format, points", "points"),
}
_WITH_INTERACTIONS = ("full", "fractional")


@dataclass(frozen=True)
class _Design:
    """The content of design.json."""

    kind: str
    names: tuple[str, ...]
    overrides: tuple[tuple[str, ...], ...]  # for each factor, an override for each value
    content: Json

    def levels(self, overrides: Sequence[str]) -> tuple[int, ...] | None:
        """Return the index of the value of each factor; None if a run has none of a factor's values."""
        found = []
        for texts in self.overrides:
            index = next((index for index, text in enumerate(texts) if text in overrides), None)
            if index is None:
                return None
            found.append(index)
        return tuple(found)

    def rest(self, overrides: Sequence[str]) -> str:
        """Return the overrides that are no factor: those of a seed."""
        own = {text for texts in self.overrides for text in texts}
        return " ".join(text for text in overrides if text not in own)

    def title(self, contrast: Contrast) -> str:
        """Return what an effect compares."""
        parts = []
        for factor, level in zip(contrast.factors, contrast.levels, strict=True):
            values = [text.partition("=")[2] for text in self.overrides[factor]]
            parts.append((self.names[factor], values[level], values[0]))
        if len(parts) == 1:
            name, value, first = parts[0]
            text = f"{name}: {value} against {first}"
        else:
            text = " x ".join(f"{name}={value}" for name, value, _ in parts)
        same = [" x ".join(self.names[factor] for factor in effect) for effect in contrast.confounded]
        return text + (f" (or {', '.join(same)})" if same else "")


def effects_of(runs: Sequence[Json]) -> Json:
    """Return the effects of the factors of a sweep; empty without a design, or where the runs do not tell them.

    Args:
        runs: Summaries, each with the `folder` it was read from.

    Returns:
        `design`, the content of design.json; `num_runs`; `rows`, each with `effect` and for each measure value, low, high, p_value
        and p_holm, as far as they are known; and `note`.
    """
    done = [
        run for run in runs if run["state"] == "done" and run["objective"] is not None and "folder" in run
    ]
    folders = {Path(run["folder"]).parent for run in done}
    design = _design_of(folders.pop()) if len(folders) == 1 else None
    if design is None:
        return {}
    placed = [(run, levels) for run in done if (levels := design.levels(run["overrides"])) is not None]
    try:
        fit = Fit(
            [len(texts) for texts in design.overrides],
            [levels for _, levels in placed],
            [design.rest(run["overrides"]) for run, _ in placed],
            interactions=design.kind in _WITH_INTERACTIONS,
        )
    except ValueError:
        return {}
    rows: list[Json] = [{"effect": design.title(contrast)} for contrast in fit.contrasts]
    whole = True
    for measure in MEASURES:
        values = [_values(run, measure) for run, _ in placed]
        known = [each for each in values if each is not None]
        if len(known) < len(values):
            continue
        whole = whole and _same_problems(known)
        table = [each[1] if whole else [sum(each[1]) / len(each[1])] for each in known]
        _add(rows, measure, fit.effects(table))
    return {
        "design": design.content,
        "num_runs": len(placed),
        "degrees": fit.degrees,
        "rows": rows,
        "note": _note(design, fit, len(placed), whole),
    }


def _add(rows: Sequence[Json], measure: str, effects: Sequence[Effect]) -> None:
    tested = [effect for effect in effects if effect.p_value is not None]
    corrected = dict(zip(map(id, tested), holm([effect.p_value or 0.0 for effect in tested]), strict=True))
    for row, effect in zip(rows, effects, strict=True):
        row[measure] = {"value": effect.value}
        if effect.p_value is not None:
            row[measure] |= {
                "low": effect.low,
                "high": effect.high,
                "p_value": effect.p_value,
                "p_holm": corrected[id(effect)],
            }


def _design_of(sweep: Path) -> _Design | None:
    path = SweepPaths(sweep).design
    content = read_json_object(path) if path.is_file() else {}
    try:
        factors = content["factors"]
        return _Design(
            kind=str(content["kind"]),
            names=tuple(str(factor["name"]) for factor in factors),
            overrides=tuple(tuple(map(str, factor["overrides"])) for factor in factors),
            content=content,
        )
    except (KeyError, TypeError):
        return None


Values = tuple[tuple[str, ...], list[float]]  # ids of the problems, and a value of each


def _values(run: Json, measure: str) -> Values | None:
    """Return a measure of the answers that are the objective of a run, on each problem; None if the answers are not kept."""
    label, _, mode = str(run["objective_of"]).partition(" ")
    if label not in run.get("scores", {}):
        return None
    scores = Path(run["folder"]) / run["scores"][label]
    found = _read(ArtifactPaths(scores.parent).answers, mode)
    return None if not found else (tuple(found), [values[measure] for values in found.values()])


@lru_cache(maxsize=1024)
def _read(path: Path, mode: str) -> dict[str, dict[str, float]]:
    """Return problem -> measure -> mean over its answers, of the first suite of a file of answers; empty if it cannot be read."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    suite = None
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                suite = suite or row["suite"]
                if row["suite"] == suite and row["mode"] == mode:
                    each = (float(row["correct"]), float(row["num_tokens"]), float(row["format"]))
                    found.setdefault(str(row["problem_id"]), []).append(each)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {
        problem: {
            name: sum(column) / len(answers)
            for name, column in zip(MEASURES, zip(*answers, strict=True), strict=True)
        }
        for problem, answers in found.items()
    }


def _same_problems(values: Sequence[Values]) -> bool:
    return len({ids for ids, _ in values}) == 1 and len(values[0][0]) > 1


def _note(design: _Design, fit: Fit, num_runs: int, has_problems: bool) -> str:
    luck = ["problems", "sampling"] if has_problems else ["sampling"]
    luck += ["training seeds"] if fit.degrees else []
    of = design.content
    text = (
        f"{of['kind']} design, {len(of['combinations'])} of {of['of']} combinations, {num_runs} runs, {fit.degrees} degrees of freedom. "
        "An effect is on average over the values of the other factors; a x b is by how much more a does at this value of b. 95 % intervals "
        f"hold the luck of {' and '.join([', '.join(luck[:-1]), luck[-1]] if len(luck) > 1 else luck)}; p-values are corrected for "
        "the number of effects (Holm)."
    )
    if not fit.degrees:
        text += " No run is left to tell the luck of seeds: type seed=1,2."
    found = of.get("confounded") or []
    return text + (f" Confounded: {'; '.join(found)}." if found else "")


def effects_table(numbers: Json) -> Table:
    """Return the effects as a table of the report; without rows where there are none."""
    effects = numbers.get("effects") or {}
    measures = [measure for measure in MEASURES if any(measure in row for row in effects.get("rows", []))]
    rows: list[tuple[Cell, ...]] = []
    for index, row in enumerate(effects.get("rows", [])):
        cells: list[Cell] = [row["effect"]]
        for measure in measures:
            path = ("effects", "rows", str(index), measure)
            reach = _reach(effects["rows"], measure)
            cells.append(interval_at(numbers, path, MEASURES[measure][1], scale=(-reach, reach)))
            cells.append(number_at(numbers, (*path, "p_holm"), "p") or "")
        rows.append(tuple(cells))
    columns = ["effect"]
    for measure in measures:
        columns += [MEASURES[measure][0], f"p (Holm), {measure}"]
    return Table("effects", "Effects of the factors", tuple(columns), tuple(rows), effects.get("note", ""))


def _reach(rows: Sequence[Mapping[str, Any]], measure: str) -> float:
    bounds = [abs(row[measure].get(end) or 0.0) for row in rows if measure in row for end in ("low", "high")]
    return max(bounds, default=1.0) or 1.0
