"""Collects everything that a report shows into one `Document`, from the files of one run or several. Torch-free.

Document.numbers   summary.json of the run, or the content of sweep-summary.json: every number in a table or sentence
Document.data      what the page's script draws, as JSON:
    settings   [{code, label, runs}]
    panels     [{metric, title, unit, step, curves: [{setting, x, y, low, high}]}]  a band where `low` and `high` are given
    events     [{run, setting, step, at, rule, metric, sentence}]  broken health rules
    changed    [{run, comparison, decoding, won: {number, rows}, lost: {number, rows}}]
               rows: {problem, prompt, gold, before: {text, read, correct}, after}
    texts      [{run, step, at, problem, prompt, gold, text, tokens, cut, reward, advantage, rewards, mode, correct}]
    notes      {texts, curves}  what was left out to keep the page small
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1exp.errors import Refused
from r1exp.paths import RunPaths
from r1exp.plan.run_plan import has_plan
from r1exp.report.answers import changed_problems, completions_of, within_budget
from r1exp.report.curves import panels_of, points_of
from r1exp.report.numbers import Sentence, Table
from r1exp.report.pareto import pareto_figure
from r1exp.report.provenance import provenance_of
from r1exp.report.records import RunRecord, read_run
from r1exp.report.sections import run_tables
from r1exp.report.several import code_of, label_of, numbers_of, several_tables
from r1exp.report.story import (
    problems_of,
    question_of_run,
    question_of_several,
    verdict_of_run,
    verdict_of_several,
)

Json = dict[str, Any]
_TEXT_BUDGET = 1_200_000  # characters of completions in a page
_PROBLEM_BUDGET = 900_000  # characters of problems won and lost
_ROW = 2_500  # characters of a problem with two answers, to share the budget
_MAX_ROWS = 40  # problems won, and lost, of one comparison
_POINT_BUDGET = 60_000  # points of all curves
_FEWEST, _MOST = 40, 400  # points of a curve


@dataclass(frozen=True)
class Document:
    """What a report shows."""

    title: str
    is_several: bool
    question: Sentence
    verdict: Sentence
    numbers: Json
    tables: Sequence[Table]
    problems: Sequence[dict[str, str]]  # steps that failed
    provenance: Sequence[Json]
    data: Json
    drawings: Mapping[str, str] = field(default_factory=dict)  # name of a table -> SVG below it


def members_of(folder: Path) -> list[Path]:
    """Return the run directories of a folder: itself, or the members of a sweep in their order.

    Raises:
        Refused: the folder is neither a run nor a sweep.
    """
    if not folder.is_dir():
        raise Refused(f"{folder}: there is no such folder")
    if has_plan(folder) or RunPaths(folder).summary.exists():
        return [folder]
    found = [each for each in folder.iterdir() if each.name.isdigit() and _is_run(each)]
    if not found:
        raise Refused(f"{folder} is neither a run directory nor a sweep with runs")
    return sorted(found, key=lambda each: int(each.name))


def _is_run(folder: Path) -> bool:
    return has_plan(folder) or RunPaths(folder).summary.exists()


def read_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """Return the records of runs, under names that are unique."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = ["/".join(folder.resolve().parts[-2:]) for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder.resolve()) for folder in folders]
    return [read_run(folder, name) for folder, name in zip(folders, names, strict=True)]


def document_of(
    records: Sequence[RunRecord], is_several: bool, title: str | None = None, sweep: Path | None = None
) -> Document:
    """Return the document of runs.

    Args:
        records: The runs, at least one.
        is_several: Whether they are compared, as the members of a sweep; else there is one run.
        title: Of the report; None: the name of the run.
        sweep: The folder of the sweep that the runs are the members of.
    """
    if not is_several:
        record = records[0]
        settings = [{"overrides": record.summary["overrides"], "runs": [record.name]}]
        return Document(
            title=title or str(record.summary.get("name", record.name)), is_several=False,
            question=question_of_run(record), verdict=verdict_of_run(record.summary),
            numbers=record.summary, tables=run_tables(record.summary), problems=problems_of(records),
            provenance=[provenance_of(record)], data=_data(records, settings),
        )  # fmt: skip
    numbers = numbers_of(
        {record.name: record.summary for record in records},
        {record.name: record.folder for record in records},
        sweep,
    )
    return Document(
        title=title or str(numbers["name"]), is_several=True,
        question=question_of_several(numbers), verdict=verdict_of_several(numbers),
        numbers=numbers, tables=several_tables(numbers), problems=problems_of(records),
        provenance=[provenance_of(record) for record in records], data=_data(records, numbers["settings"]),
        drawings={"pareto": figure} if (figure := pareto_figure(numbers)) else {},
    )  # fmt: skip


def _data(records: Sequence[RunRecord], settings: Sequence[Json]) -> Json:
    by_name = {record.name: record for record in records}
    points = {record.name: _points(record) for record in records}
    runs = [[points[name] for name in setting["runs"]] for setting in settings]
    num_curves = sum(
        len({(step, metric) for run in each for step in run for metric in run[step]}) for each in runs
    )
    max_points = max(_FEWEST, min(_MOST, _POINT_BUDGET // max(num_curves, 1)))
    setting_of = {name: index for index, setting in enumerate(settings) for name in setting["runs"]}
    texts, text_note = _texts(list(by_name.values()))
    longest = max(
        (len(found) for run in points.values() for step in run.values() for found in step.values()), default=0
    )
    thinned = f"Curves of more than {max_points} points are thinned: a point is the mean of its neighbors, and the band holds their extremes."
    return {
        "settings": [
            {"code": code_of(index), "label": label_of(setting), "runs": setting["runs"]}
            for index, setting in enumerate(settings)
        ],
        "panels": panels_of(runs, max_points),
        "events": [event | {"setting": setting_of[event["run"]]} for event in _events(records)],
        "changed": _changed(records),
        "texts": texts,
        "notes": {"texts": text_note, "curves": thinned if longest > max_points else ""},
    }  # fmt: skip


def _points(record: RunRecord) -> dict[str, Any]:
    return {step["name"]: found for step in record.steps if (found := points_of(record.paths(step)))}


def _events(records: Sequence[RunRecord]) -> list[Json]:
    found = []
    for record in records:
        for step in record.steps:
            for row in record.summary["steps"].get(step["name"], {}).get("health", []):
                rule = str(row.get("rule", ""))
                found.append({
                    "run": record.name, "step": step["name"], "at": row["step"], "rule": rule,
                    "metric": row.get("metric") or record.rule_metric(step, rule), "sentence": row.get("sentence", ""),
                })  # fmt: skip
    return found


def _changed(records: Sequence[RunRecord]) -> list[Json]:
    """Return the problems won and lost of each run, within the budget that the runs share."""
    pairs = [(record, name) for record in records for name in record.summary["comparisons"]]
    max_rows = max(1, min(_MAX_ROWS, _PROBLEM_BUDGET // (_ROW * 4 * max(len(pairs), 1))))
    found = []
    for record, name in pairs:
        after, _, before = name.partition(" - ")
        sides = record.labelled(before), record.labelled(after)
        if sides[0] is None or sides[1] is None:
            continue
        for each in changed_problems(sides[0], sides[1], max_rows):
            found.append({"run": record.name, "comparison": name, **each})
    return found


def _texts(records: Sequence[RunRecord]) -> tuple[list[Json], str]:
    """Return the kept completions of all runs within the budget, and a note on those left out."""
    share = _TEXT_BUDGET // len(records)
    found, total = [], 0
    for record in records:
        rows = [
            {"run": record.name, "step": step["name"], **row}
            for step in record.steps
            for row in completions_of(record.paths(step))
        ]
        total += len(rows)
        found += within_budget(rows, share)
    note = f"{len(found):,} of {total:,} kept completions, evenly spread, to keep the page small."
    return found, note if len(found) < total else ""
