"""Reads values from the rows of a data set; error messages name file and line."""

import math
import unicodedata
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from r1exp.errors import Refused
from r1exp.files import hash_of_file
from r1exp.settings import nearest

Row = dict[str, Any]
Rows = Iterator[tuple[str, Row]]  # (place, row); place is `file, line N`, for messages
LARGEST_INTEGER = 2**63 - 1  # Arrow's int64, in which a trainer's data are stored


def fingerprint_of_file(path: Path) -> str:
    """Return the content hash of a data file. In one process, an unchanged file is read once.

    Raises:
        Refused: the file cannot be read.
    """
    try:
        return _hash_of_file(path, stamp_of(path))
    except OSError as error:
        raise unreadable(path, error) from error


def stamp_of(path: Path) -> tuple[int, int]:
    """Return size and time of change of a file, which tell whether it changed."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4096)
def _hash_of_file(path: Path, stamp: tuple[int, int]) -> str:
    del stamp
    return hash_of_file(path)


def text_in(row: Mapping[str, Any], column: str, place: str, setting: str) -> str:
    """Return the text in one column of a row; a number is converted to text, since gold answers often are numbers.

    Args:
        row: A row of the data.
        column: The column to read; `a.b` is the value `b` of the object in column `a`.
        place: File and line of the row, for messages.
        setting: The field that names the column, for messages.

    Raises:
        Refused: the row has no such column, or its value is neither text nor a number.
    """
    return text_of(value_in(row, column, place, setting), column, place)


def text_of(value: Any, column: str, place: str) -> str:
    """Return a value as text.

    Raises:
        Refused: it is neither text nor a number, is blank, or cannot be written as UTF-8.
    """
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise Refused(
                f"{place}: column {column!r} holds {value}, which is no number one can answer with (1e400, for example, is "
                "larger than the largest float); write the number as a text, or remove the row"
            )
        return str(value)
    if not isinstance(value, str):
        raise Refused(
            f"{place}: column {column!r} holds {kind_of(value)}; it must hold text or a number; correct the row"
        )
    if not value.strip():
        raise Refused(f"{place}: column {column!r} is blank; give it a text, or remove the row")
    _refuse_surrogate(value, column, place)
    return value


def value_in(row: Mapping[str, Any], column: str, place: str, setting: str) -> Any:
    """Return the value of a column, or of the dotted path of a nested one.

    Raises:
        Refused: the row has no such column.
    """
    found, value = find(row, column)
    if not found:
        names = names_in(row)
        suggestion = nearest(column, names) or names
        raise Refused(
            f"{place}: the row has no column {column!r}, only {names}; add it to the row, or name the "
            f"right column, e.g. {setting}={suggestion[0] if suggestion else '...'}"
        )
    return value


def find(row: Mapping[str, Any], column: str) -> tuple[bool, Any]:
    """Return whether the row has a column or dotted path, and its value."""
    if column in row:
        return True, row[column]
    value: Any = row
    for part in column.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return False, None
    return True, value


def names_in(row: Mapping[str, Any], depth: int = 3) -> list[str]:
    """Return the names of all columns, those of nested objects as dotted paths."""
    names = []
    for name, value in sorted(row.items()):
        names.append(name)
        if isinstance(value, Mapping) and depth > 1:
            names += [f"{name}.{below}" for below in names_in(value, depth - 1)]
    return names


def refuse_what_arrow_cannot_store(value: Any, column: str, place: str) -> None:
    """Raise Refused for an integer beyond 64 bits, a number beyond the floats or half a surrogate pair, at any depth."""
    if isinstance(value, str):
        _refuse_surrogate(value, column, place)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise Refused(
                f"{place}: column {column!r} holds a number beyond the largest float (1.8e308); write it as a text"
            )
    elif isinstance(value, int):
        if not -LARGEST_INTEGER - 1 <= value <= LARGEST_INTEGER:
            raise Refused(
                f"{place}: column {column!r} holds {shortened(str(value))}, and an integer must fit into 64 bits; write it "
                "as a text"
            )
    elif isinstance(value, list):
        for item in value:
            refuse_what_arrow_cannot_store(item, column, place)
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_surrogate(key, column, place)
            refuse_what_arrow_cannot_store(item, f"{column}.{key}", place)


def same_text(text: str) -> str:
    """Return a text in Unicode's composed form (NFC), so that two encodings of one question are equal."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def unreadable(path: Path, error: OSError | UnicodeDecodeError | EOFError) -> Refused:
    """Return the refusal of a file that cannot be read, with a similar name if there is one."""
    if isinstance(error, UnicodeDecodeError):
        return Refused(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); convert it to UTF-8"
        )
    siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    similar = nearest(path.name, set(siblings) - {path.name})
    hint = (
        f"; did you mean {path.parent / similar[0]}?" if similar else "; check the path and its permissions"
    )
    return Refused(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}{hint}")


def kind_of(value: Any) -> str:
    """Return what a value is, for messages."""
    names = {
        type(None): "null", bool: "true or false", int: "a number", float: "a number",
        str: "a text", list: "a list", dict: "an object",
    }  # fmt: skip
    return names.get(type(value), f"a {type(value).__name__}")


def shortened(text: str) -> str:
    """Return at most 80 characters."""
    return text if len(text) <= 80 else f"{text[:77]}..."


def _refuse_surrogate(text: str, column: str, place: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused(
            f"{place}: column {column!r} holds half of a surrogate pair (\\ud8..); correct the row"
        ) from error
