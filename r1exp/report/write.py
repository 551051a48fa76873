"""Writes the report of a run, of several or of a sweep: report.html, report.md, tables/ and figures/. Torch-free.

<output>/report.html            the page; it needs no network and no other file
<output>/report.md              the same facts as text
<output>/tables/<name>.csv, .tex
<output>/figures/<step>-<metric>.svg   with the extra `figures`
<output>/sweep-summary.json     the numbers of the page of several runs; those of one run are in summary.json
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1exp.errors import Refused
from r1exp.files import json_text, read_json_object, write_json, write_text
from r1exp.paths import ReportPaths, RunPaths
from r1exp.report import figures
from r1exp.report.collect import Document, document_of, members_of, read_runs
from r1exp.report.export import csv_of, latex_of
from r1exp.report.markdown import markdown_part
from r1exp.report.page import page_of
from r1exp.report.summary import report_text
from r1exp.report.sweep import sweep_text
from r1exp.terminal import say

States = Mapping[str, dict[str, Any]]  # name of a run that is not done -> `state` and `reason`


@dataclass(frozen=True)
class Target:
    """Which runs a report is about, and where it is written."""

    runs: tuple[Path, ...]
    output: Path
    sweep: Path | None  # the sweep that the runs are the members of

    @property
    def is_several(self) -> bool:
        """Whether runs are compared."""
        return self.sweep is not None or len(self.runs) > 1

    def document(self) -> Document:
        """Return what the report shows, read from the files as they are now."""
        title = None if self.sweep is None or not _is_default(self.sweep) else self.sweep.resolve().name
        return document_of(read_runs(self.runs), self.is_several, title, self.sweep)


def _is_default(sweep: Path) -> bool:
    return (
        not sweep.resolve().name[:1].isdigit()
    )  # else the folder is named after the time at which it started


def target_of(folders: Sequence[Path], output: Path | None = None) -> Target:
    """Return the target of a command line.

    Args:
        folders: Run directories, or sweeps.
        output: Where to write; None: into the run or the sweep; for several, into the folder `report`.

    Raises:
        Refused: a folder is neither a run nor a sweep.
    """
    members = [members_of(folder) for folder in folders]
    sweep = folders[0] if len(folders) == 1 and members[0] != [folders[0]] else None
    runs = tuple(dict.fromkeys(run for found in members for run in found))
    default = folders[0] if len(folders) == 1 else Path("report")
    return Target(runs, output or default, sweep)


def write_pages(target: Target, *, draws: bool, states: States | None = None) -> Path:
    """Write a report and return the path of its page.

    Args:
        target: What it is about.
        draws: Whether figures are drawn too, if matplotlib is installed; it takes some seconds.
        states: Of members of a sweep that are not done, as `r1exp sweep status` knows them.
    """
    document = target.document()
    paths = ReportPaths(target.output)
    write_text(paths.page, page_of(document))
    if document.is_several:
        write_text(paths.numbers, json_text(document.numbers))
    elif (
        document.numbers["state"] != "running"
        and read_json_object(RunPaths(paths.folder).summary) != document.numbers
    ):
        write_json(
            RunPaths(paths.folder).summary, document.numbers
        )  # of an earlier version, or of a run that was killed
    for table in document.tables:
        write_text(paths.table(table.name, "csv"), csv_of(table))
        write_text(paths.table(table.name, "tex"), latex_of(table))
    drawn = figures.draw(document, paths.figures) if draws and figures.can_draw() else []
    for name, drawing in document.drawings.items():
        write_text(paths.figures / f"{name}.svg", drawing)
        drawn.append((f"Figure: {name}", paths.figures / f"{name}.svg"))
    relative = [(title, path.relative_to(paths.folder).as_posix()) for title, path in drawn]
    write_text(paths.text, _first_part(target, document, states or {}) + markdown_part(document, relative))
    return paths.page


def write_pages_if_possible(folder: Path) -> None:
    """Write the report of a run or sweep that has ended, without figures; an error is said, and changes nothing else.

    A run that has trained for days is done, whatever is in a file that its report reads.
    """
    try:
        write_pages(target_of([folder]), draws=False)
    except Exception as error:  # noqa: BLE001 - the result of a run does not depend on its page
        say(
            f"no {ReportPaths(folder).page.name}: {type(error).__name__}: {error}; `r1exp report {folder}` writes it"
        )


def _first_part(target: Target, document: Document, states: States) -> str:
    if not document.is_several:
        return report_text(document.numbers)
    if target.sweep is not None:
        try:
            return sweep_text(target.sweep, states)
        except Refused as error:  # no run has finished
            return f"# {document.title}\n\n{error}\n"
    return f"# {document.title}\n"
