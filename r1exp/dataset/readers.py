"""Reads the rows of one file: JSON lines, JSON, CSV, TSV, Parquet or Arrow; a text may be compressed.

Every reader is a generator and holds a few rows in memory at a time, however large the file is.
"""

import csv
import gzip
import io
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from r1exp.dataset.rows import Row, Rows, kind_of, unreadable
from r1exp.errors import Refused

_ROWS_PER_BATCH = 1000  # of a Parquet file
_CHARACTERS_PER_READ = 1 << 20  # of a JSON array
_LONGEST_ROW = (
    1 << 28
)  # characters of an element of a JSON array; a broken one would be read to the file's end
_COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


def format_of(path: Path) -> str | None:
    """Return the ending that decides how a file is read, without that of its compression; None: no data file."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
        return suffixes[-1] if suffixes and suffixes[-1] in _TEXTS else None
    return suffixes[-1] if suffixes and suffixes[-1] in READERS else None


def read_rows(path: Path, default: str | None = None) -> Rows:
    """Yield (place, row) of every row of a file.

    Args:
        path: The file.
        default: The format of a file whose ending names none, for example `.jsonl`; None: it is refused.

    Raises:
        Refused: the file is missing, unreadable or empty, or a row is no object; the message names the place.
    """
    found = format_of(path) or default
    if found is None:
        if not path.exists():
            raise unreadable(path, FileNotFoundError(2, "No such file or directory"))
        raise Refused(
            f"{path}: a data file ends in one of {', '.join(READERS)}, and a text may be compressed (.gz, .zst, .bz2); "
            "rename the file"
        )
    is_empty = True
    for placed in READERS[found](path):
        is_empty = False
        yield placed
    if is_empty:
        raise _empty(path)


def read_json_lines(path: Path) -> list[tuple[str, Row]]:
    """Return (place, row) of every line of a file that is not blank, whatever the file is named.

    Raises:
        Refused: the file is missing, unreadable or empty, or a line is not a JSON object.
    """
    rows = list(_json_lines(path))
    if not rows:
        raise _empty(path)
    return rows


def plain(value: Any) -> Any:
    """Return a value of Parquet or Arrow as JSON could hold it: dates as text, a number that is missing as null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):  # an entry of a map
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def _empty(path: Path) -> Refused:
    return Refused(f"{path} is empty; a data set needs at least one row, one JSON object per line")


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """Open a text, decompressed; a fault on the way becomes a refusal."""
    compression = _COMPRESSED.get(path.suffix.lower())
    try:
        if compression is None:
            stream: Any = path.open("rb")
        elif compression == "gzip":
            stream = gzip.open(path)  # noqa: SIM115 # closed with the text around it
        else:
            import pyarrow  # it has no type hints

            stream = pyarrow.input_stream(str(path), compression=compression)
        with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
            yield text
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _json_lines(path: Path) -> Rows:
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield (place := f"{path}, line {number}"), _object(line, place)


def _object(line: str, place: str) -> Row:
    try:
        value = _DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        raise Refused(
            f"{place}: this is not JSON ({error}); every line must be one JSON object; correct the line"
        ) from error
    return _row(value, place, "every line must be one JSON object")


def _row(value: Any, place: str, rule: str) -> Row:
    if not isinstance(value, dict):
        raise Refused(f"{place}: this is {kind_of(value)}; {rule}; correct the line")
    return value


def _json_file(path: Path) -> Rows:
    """Read an array of objects, or lines of them."""
    with _opened(path) as file:
        start = file.read(_CHARACTERS_PER_READ)
        if start.lstrip()[:1] == "[":
            yield from _array(start, file, path)
            return
    lines = start.lstrip().partition("\n")
    if lines[1] or len(start) < _CHARACTERS_PER_READ:
        try:
            _DECODER.decode(lines[0])
        except (ValueError, RecursionError):
            raise Refused(
                f"{path} is neither a JSON array of objects nor one object per line; write it as one of these two (an "
                "object with lists as columns, or with the rows below a key, is neither)"
            ) from None
    yield from _json_lines(path)


def _array(start: str, file: TextIO, path: Path) -> Rows:
    """Decode one element after the other, and keep only what has not been decoded."""
    text, position, number = start, start.index("[") + 1, 0
    while True:
        position, text = _skip(text, position, file)
        if not text:
            raise Refused(
                f"{path}, row {number}: the array does not end; correct the file, or download it again"
            )
        if text[position] == "]":
            return
        place = f"{path}, row {number}"
        while True:
            try:
                value, end = _DECODER.raw_decode(text, position)
                if end < len(text):  # a number at the very end may go on
                    break
            except (ValueError, RecursionError) as error:
                fault: Exception | None = error
            else:
                fault = None
            is_too_long = len(text) - position > _LONGEST_ROW
            more = "" if is_too_long else file.read(max(_CHARACTERS_PER_READ, len(text) - position))
            if not more:
                raise Refused(
                    f"{place}: this is not JSON ({fault or 'the array does not end'}); correct the file"
                ) from fault
            text, position = text[position:] + more, 0
        yield place, _row(value, place, "every element must be an object")
        number += 1
        position, text = _skip(text, end, file)
        if position < len(text) and text[position] == ",":
            position += 1
        elif text and text[position] != "]":
            raise Refused(
                f"{place}: after this row comes neither a comma nor the end of the array; correct the file"
            )


def _skip(text: str, position: int, file: TextIO) -> tuple[int, str]:
    """Return the position of the next character that is no white space, and the text it is in."""
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        if position < len(text):
            return position, text
        text, position = file.read(_CHARACTERS_PER_READ), 0
        if not text:
            return 0, ""


def _csv(path: Path, delimiter: str = ",") -> Rows:
    csv.field_size_limit(2**31 - 1)
    with _opened(path) as file:
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            names = next(lines, [])
            if len(set(names)) < len(names):
                double = next(name for name in names if names.count(name) > 1)
                raise Refused(f"{path}, line 1: two columns are named {double!r}; rename one of them")
            for values in lines:
                place = f"{path}, line {lines.line_num}"
                if values and len(values) != len(names):
                    raise Refused(
                        f"{place}: the row has {len(values)} fields and line 1 names {len(names)}; a text with a "
                        f"{'comma' if delimiter == ',' else 'tab'} needs quotation marks around it; correct the row"
                    )
                if values:  # an empty field is null
                    yield place, {name: value or None for name, value in zip(names, values, strict=True)}
        except csv.Error as error:
            raise Refused(
                f"{path}, line {lines.line_num}: this is not CSV ({error}); correct the row"
            ) from error


def _tsv(path: Path) -> Rows:
    return _csv(path, "\t")


def _parquet(path: Path) -> Rows:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield from _batches(file.iter_batches(_ROWS_PER_BATCH), path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise _broken(path, "Parquet", error) from error


def _arrow(path: Path) -> Rows:
    """Read the stream format, which `datasets` writes, or the file format."""
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as source:
            try:
                yield from _batches(iter(pyarrow.ipc.open_stream(source)), path)
                return
            except pyarrow.ArrowInvalid:
                reader = pyarrow.ipc.open_file(source)
            yield from _batches(
                (reader.get_batch(number) for number in range(reader.num_record_batches)), path
            )
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise _broken(path, "Arrow", error) from error


def _broken(path: Path, name: str, error: Exception) -> Refused:
    if isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError):
        return unreadable(path, error)
    return Refused(f"{path} cannot be read as {name}: {error}; download it again")


def _batches(batches: Iterator[Any], path: Path) -> Rows:
    number = 0
    for batch in batches:
        unlike_json = [field.name for field in batch.schema if not _is_like_json(field.type)]
        for start in range(0, batch.num_rows, _ROWS_PER_BATCH):
            for row in batch.slice(start, _ROWS_PER_BATCH).to_pylist():
                for name in unlike_json:
                    row[name] = plain(row[name])
                yield f"{path}, row {number}", row
                number += 1


def _is_like_json(kind: Any) -> bool:
    """Whether the values of an Arrow type are texts, integers, or lists or objects of them."""
    from pyarrow import types

    if types.is_struct(kind):
        return all(_is_like_json(kind.field(number).type) for number in range(kind.num_fields))
    if types.is_list(kind) or types.is_large_list(kind):
        return _is_like_json(kind.value_type)
    return any(
        test(kind) for test in (types.is_string, types.is_large_string, types.is_integer, types.is_boolean)
    )


_TEXTS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_file,
    ".csv": _csv,
    ".tsv": _tsv,
}
READERS = {**_TEXTS, ".parquet": _parquet, ".arrow": _arrow}
