"""Writes tables as CSV, LaTeX (booktabs) and Markdown. Torch-free.

CSV has the values of summary.json in full, a column for each bound of an interval. LaTeX and Markdown have them as the page writes them.
"""

import csv
import io
import re
from collections.abc import Sequence

from r1exp.report.numbers import Cell, Code, Interval, Number, Table

_BOUNDS = ("low", "high")
_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}  # fmt: skip
_SPECIALS = re.compile("[" + re.escape("".join(_SPECIAL)) + "]")


def csv_of(table: Table) -> str:
    """Return a table as CSV, with numbers in full."""
    measured = [
        any(isinstance(row[index], Interval) for row in table.rows) for index in range(len(table.columns))
    ]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    heads: list[str] = []
    for name, is_measured in zip(table.columns, measured, strict=True):
        plain = name.removesuffix(", %").removesuffix(", points")  # as in summary.json, a share of 1
        heads += [plain, *(f"{plain} {bound}" for bound in _BOUNDS)] if is_measured else [plain]
    writer.writerow(heads)
    for row in table.rows:
        cells: list[str | float] = []
        for cell, is_measured in zip(row, measured, strict=True):
            cells += _values(cell, is_measured)
        writer.writerow(cells)
    return file.getvalue()


def _values(cell: Cell, is_measured: bool) -> list[str | float]:
    if isinstance(cell, Interval):
        return [cell.value.value, cell.low.value, cell.high.value]
    value = cell.value if isinstance(cell, Number) else cell.text if isinstance(cell, Code) else cell
    return [value, "", ""] if is_measured else [value]


def latex_of(table: Table) -> str:
    """Return a table as LaTeX that needs the package booktabs."""
    is_number = [
        any(isinstance(row[index], Number | Interval) for row in table.rows)
        for index in range(len(table.columns))
    ]
    lines = [
        f"% {table.title}. {table.note}".rstrip() + " Needs \\usepackage{booktabs}.",
        "\\begin{tabular}{" + "".join("r" if each else "l" for each in is_number) + "}",
        "\\toprule",
        " & ".join(_escaped(name) for name in table.columns) + " \\\\",
        "\\midrule",
        *(" & ".join(map(_latex_cell, row)) + " \\\\" for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(cell: Cell) -> str:
    if isinstance(cell, Number | Interval):
        signed = re.sub(r"(?<![\w.])-(?=\d)", "$-$", cell.text)
        return "{" + signed + "}" if signed.startswith("[") else signed
    text = _escaped(cell if isinstance(cell, str) else cell.text)
    return f"\\texttt{{{text}}}" if isinstance(cell, Code) and text else text


def _escaped(text: str) -> str:
    return _SPECIALS.sub(lambda found: _SPECIAL[found[0]], " ".join(text.split()))


def markdown_of(table: Table) -> str:
    """Return a table as Markdown."""
    rows: Sequence[Sequence[str]] = [table.columns, ["---"] * len(table.columns)]
    rows = [*rows, *([_markdown_cell(cell) for cell in row] for row in table.rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _markdown_cell(cell: Cell) -> str:
    text = " ".join((cell if isinstance(cell, str) else cell.text).split()).replace("|", "\\|")
    return f"`{text}`" if isinstance(cell, Code) and text and "`" not in text else text
