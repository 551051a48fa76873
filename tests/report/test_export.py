"""Tables as CSV, LaTeX and Markdown, and the figures."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from r1exp.report.export import csv_of, latex_of, markdown_of
from r1exp.report.numbers import Code, Interval, Number, Table
from r1exp.report.write import target_of, write_pages

VALUE = Interval(
    Number(("a",), 0.123456, "percent"), Number(("b",), 0.1, "percent"), Number(("c",), 0.2, "percent")
)
TABLE = Table(
    "t", "A & B", ("setting", "accuracy, %", "p"),
    ((Code("x_y=50%|z"), VALUE, Number(("d",), -0.00012, "p")), (Code("none"), "", "")), "Note.",
)  # fmt: skip


def test_csv_has_numbers_in_full_and_a_column_for_each_bound() -> None:
    rows = list(csv.reader(io.StringIO(csv_of(TABLE))))
    assert rows == [
        ["setting", "accuracy", "accuracy low", "accuracy high", "p"],
        ["x_y=50%|z", "0.123456", "0.1", "0.2", "-0.00012"],
        ["none", "", "", "", ""],
    ]


def test_latex_is_a_booktabs_table_with_special_characters_escaped() -> None:
    lines = latex_of(TABLE).splitlines()
    assert lines[1:5] == [r"\begin{tabular}{lrr}", r"\toprule", r"setting & accuracy, \% & p \\", r"\midrule"]
    assert lines[5] == r"\texttt{x\_y=50\%\textbar{}z} & 12.3 [10.0, 20.0] & $-$0.00012 \\"
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]


def test_markdown_has_a_cell_for_each_column() -> None:
    assert markdown_of(TABLE).splitlines()[2] == r"| `x_y=50%\|z` | 12.3 [10.0, 20.0] | -0.00012 |"


@pytest.mark.slow
def test_figures_are_drawn_beside_the_text_and_are_the_same_each_time(tmp_path: Path, make_run: Any) -> None:
    pytest.importorskip("matplotlib")
    run = make_run(tmp_path / "run")
    write_pages(target_of([run]), draws=True)
    figure = run / "figures" / "rl-kl.svg"
    first = figure.read_bytes()
    assert b"<svg" in first and "(figures/rl-kl.svg)" in (run / "report.md").read_text()
    write_pages(target_of([run]), draws=True)
    assert figure.read_bytes() == first
