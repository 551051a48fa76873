"""Stores the rows of a trainer: in memory if there are few, else in Arrow files that are mapped into memory."""

import shutil
import tempfile
from atexit import register
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow  # it has no type hints
from datasets import Dataset, concatenate_datasets

_ROWS_IN_MEMORY = 100_000  # rows; also those of one file


def dataset_of(
    rows: Iterable[dict[str, Any]], folder: Path, rows_in_memory: int = _ROWS_IN_MEMORY
) -> Dataset:
    """Return the rows as a data set. Every column of any row is one of all rows; where a row has none, it is null.

    Args:
        rows: Read once.
        folder: Of the step. More than `rows_in_memory` rows are written into a folder there, deleted when the process ends.
        rows_in_memory: Rows that are held in memory, and rows of each file.
    """
    iterator = iter(rows)
    parts = [_from_list(list(islice(iterator, rows_in_memory)))]
    following = list(islice(iterator, rows_in_memory))
    if not following:
        return parts[0]
    place = Path(tempfile.mkdtemp(dir=folder, prefix=".rows-"))
    register(shutil.rmtree, place, ignore_errors=True)
    parts = [_on_disk(parts[0], place / "0.arrow")]
    while following:
        parts.append(_on_disk(_from_list(following), place / f"{len(parts)}.arrow"))
        following = list(islice(iterator, rows_in_memory))
    return concatenate_datasets(parts)


def _from_list(rows: list[dict[str, Any]]) -> Dataset:
    names = dict.fromkeys(name for row in rows for name in row)
    return Dataset.from_list([{name: row.get(name) for name in names} for row in rows])


def _on_disk(part: Dataset, file: Path) -> Dataset:
    with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, part.data.schema) as writer:
        for batch in _batches(part):
            writer.write_batch(batch)
    return Dataset.from_file(str(file))


def _batches(part: Dataset) -> Iterator[Any]:
    yield from part.data.table.to_batches()
