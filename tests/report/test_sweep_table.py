"""The rows of a sweep: appended while its members run, and written as one table at the end."""

import json
from pathlib import Path

from r1exp.report.sweep_table import add_row, rows_of, write_rows


def test_rows_that_were_added_are_read_beside_the_table(tmp_path: Path) -> None:
    for number in (0, 10, 2):
        add_row(tmp_path, {"member": str(number), "overrides": [f"seed={number}"], "job_id": number})
    write_rows(tmp_path)
    assert not list(tmp_path.glob("*.jsonl"))
    add_row(tmp_path, {"member": "2", "job_id": 99})
    add_row(tmp_path, {"member": "3", "overrides": []})
    assert [row["member"] for row in rows_of(tmp_path)] == ["0", "2", "3", "10"]
    assert rows_of(tmp_path)[1] == {"member": "2", "overrides": ["seed=2"], "job_id": 99}
    write_rows(tmp_path)
    assert json.loads((tmp_path / "sweep.json").read_text()) == rows_of(tmp_path)


def test_a_row_that_was_cut_off_costs_no_other(tmp_path: Path) -> None:
    add_row(tmp_path, {"member": "0", "overrides": []})
    with (tmp_path / "sweep-rows.jsonl").open("a") as file:
        file.write('\n{"member": "1", "over')
    add_row(tmp_path, {"member": "2", "overrides": []})
    assert [row["member"] for row in rows_of(tmp_path)] == ["0", "2"]


def test_what_is_written_for_a_member_does_not_grow_with_the_members_before(tmp_path: Path) -> None:
    sizes = []
    for number in range(300):
        add_row(tmp_path, {"member": str(number), "overrides": ["seed=1"] * 10})
        sizes.append((tmp_path / "sweep-rows.jsonl").stat().st_size)
    assert not (tmp_path / "sweep.json").exists()
    assert sizes[-1] - sizes[-2] < 2 * (sizes[1] - sizes[0])
