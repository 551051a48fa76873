"""The rows of a sweep, one for each member that ended or was submitted: `sweep.json`, and what was added since it was written.

    <sweep>/sweep.json        all rows, written when the members have ended or were submitted
    <sweep>/sweep-rows.jsonl  one line for each row as it comes; removed when sweep.json has them

Appending a line costs the same for every member, where writing the whole table for each of 13,000 members writes 26 GB.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1exp.files import read_json_rows, write_json
from r1exp.paths import SweepPaths

Row = dict[str, Any]


def rows_of(folder: Path) -> list[Row]:
    """Return the rows of a sweep in the order of its members; a damaged sweep.json counts as one without rows."""
    paths = SweepPaths(folder)
    rows = {row["member"]: row for row in read_json_rows(paths.table)}
    for row in _added(paths.added_rows):
        is_whole = "overrides" in row  # else it changes a row
        rows[row["member"]] = row if is_whole else rows.get(row["member"], {"overrides": []}) | row
    return sorted(rows.values(), key=lambda row: (not row["member"].isdigit(), row["member"].zfill(9)))


def add_row(folder: Path, row: Row) -> None:
    """Add the row of a member, or change the values that it names in the row that there is.

    Args:
        folder: Of the sweep.
        row: With `member`; a row with `overrides` is whole and replaces that of an earlier start.
    """
    with SweepPaths(folder).added_rows.open("a", encoding="utf-8") as file:
        file.write(
            "\n" + json.dumps(row, ensure_ascii=False)
        )  # after a line that was cut off, on a line of its own


def write_rows(folder: Path) -> None:
    """Write all rows to sweep.json, and remove the file of those that were added."""
    added = SweepPaths(folder).added_rows
    if added.exists():
        write_json(SweepPaths(folder).table, rows_of(folder))
        added.unlink()


def _added(path: Path) -> Sequence[Row]:
    """Return the rows that were added; not the last one, if it was cut off by a kill or a full disk."""
    rows = []
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict) and "member" in row:
                    rows.append(row)
    return rows
