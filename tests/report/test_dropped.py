"""What a report says about rows that stage=filter left out."""

from typing import Any

from r1exp.report.dropped import dropped_table, examples_table, filter_lines, verdict_of_filters
from r1exp.report.numbers import Number, text_of, value_at
from r1exp.report.sections import run_tables

EXAMPLE = {"value": 0.75, "how": "near", "id": "row-3", "text": "One | question\nin two lines", "copy_of": "test/t-1", "copied_text": "x" * 500}  # fmt: skip
FACTS = {
    "num_rows": 1200, "num_kept": 1150, "evaluated": {"test": 10}, "dropped": {"contamination": 50, "duplicate": 0},
    "examples": {"contamination": [EXAMPLE]},
}  # fmt: skip
STEPS: dict[str, Any] = {
    "sample": {"state": "done", "seconds": 1.0, "facts": {"num_kept": 3}},
    "clean_rows": {"state": "done", "seconds": 2.0, "facts": FACTS},
}
SUMMARY: dict[str, Any] = {"state": "done", "steps": STEPS, "comparisons": {}}


def test_the_counts_are_those_of_the_summary_in_the_order_of_the_filters() -> None:
    table = dropped_table(SUMMARY)
    numbers = [cell for row in table.rows for cell in row if isinstance(cell, Number)]
    assert [number.value for number in numbers] == [1200, 50, 0, 1150]
    assert all(value_at(SUMMARY, number.path) == number.value for number in numbers)


def test_an_example_has_both_texts_shortened_to_one_line() -> None:
    ((step, reason, row, text, number, partner, copied),) = examples_table(SUMMARY).rows
    assert [getattr(cell, "text", cell) for cell in (step, reason, row, partner)] == [
        "clean_rows", "contamination", "row-3", "test/t-1"
    ]  # fmt: skip
    assert getattr(text, "text", "") == "One | question in two lines"
    assert len(getattr(copied, "text", "")) == 240
    assert isinstance(number, Number)
    assert value_at(SUMMARY, number.path) == 0.75


def test_a_run_says_at_its_end_how_many_rows_are_left() -> None:
    assert list(filter_lines(SUMMARY)) == ["clean_rows: 1,150 of 1,200 rows kept; left out: contamination 50"]
    sentence = verdict_of_filters(SUMMARY)
    assert sentence is not None
    assert text_of(sentence) == "Step clean_rows kept 1,150 of 1,200 rows."


def test_a_run_without_filters_has_neither_tables_nor_a_sentence() -> None:
    summary = SUMMARY | {"steps": {"sample": STEPS["sample"]}}
    assert verdict_of_filters(summary) is None
    assert {table.name for table in run_tables(SUMMARY)} - {table.name for table in run_tables(summary)} == {
        "filtered", "dropped"
    }  # fmt: skip
