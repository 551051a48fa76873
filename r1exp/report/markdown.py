"""Writes the part of report.md that follows its first tables: the question, the result, and what else the page says. Torch-free."""

from collections.abc import Sequence
from typing import Any

from r1exp.report.collect import Document
from r1exp.report.export import markdown_of
from r1exp.report.numbers import Code, Sentence, Table

_IN_FIRST_PART = {
    "accuracy",
    "differences",
    "steps",
    "settings",
    "race",
    "race_rounds",
    "effects",
    "pareto",
}  # tables that report.md begins with


def markdown_part(document: Document, figures: Sequence[tuple[str, str]]) -> str:
    """Return the sections of report.md after its first tables.

    Args:
        document: What is shown.
        figures: Title and path, relative to report.md, of each figure that was drawn.
    """
    parts = [
        "",
        "## Question and result",
        "",
        f"Asked: {_text(document.question)}",
        "",
        f"Result: {_text(document.verdict)}",
    ]
    for problem in document.problems:
        run = f"Run {problem['run']}, step" if document.is_several else "Step"
        parts += ["", f"{run} {problem['step']} {problem['state']}: {' '.join(problem['reason'].split())}"]
    for table in document.tables:
        if table.name not in _IN_FIRST_PART:
            parts += ["", *_section(table)]
    if figures:
        parts += ["", "## Curves", ""]
        parts += [f"![{title}]({path})" for title, path in figures]
    parts += _provenance(document.provenance)
    return "\n".join(parts).rstrip() + "\n"


def _section(table: Table) -> list[str]:
    note = ["", table.note] if table.note else []
    return [f"## {table.title}", "", markdown_of(table).rstrip(), *note]


def _text(sentence: Sentence) -> str:
    parts = [
        f"`{part.text}`" if isinstance(part, Code) and "`" not in part.text else _plain(part)
        for part in sentence
    ]
    return " ".join("".join(parts).split())


def _plain(part: Any) -> str:
    return part if isinstance(part, str) else str(part.text)


def _provenance(found: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["", "## Run it again", "", "```", *dict.fromkeys(each["command"] for each in found), "```"]
    if len(found) == 1:
        lines += ["", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in found[0]["facts"])]
    return lines
