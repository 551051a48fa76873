"""Reads rows from JSON lines files; error messages name file and line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1exp.errors import Refused
from r1exp.files import hash_of_file
from r1exp.settings import nearest


def read_json_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return (place, row) of every line that is not blank; place is `file, line N`, for messages.

    Raises:
        Refused: the file is missing, unreadable or empty, or a line is not a JSON object.
    """
    rows = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    rows.append((f"{path}, line {number}", _object(line, f"{path}, line {number}")))
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    if not rows:
        raise Refused(f"{path} is empty; a data set needs at least one row, one JSON object per line")
    return rows


def fingerprint_of_file(path: Path) -> str:
    """Return the content hash of a data file.

    Raises:
        Refused: the file cannot be read.
    """
    try:
        return hash_of_file(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def text_in(row: Mapping[str, Any], column: str, place: str, setting: str) -> str:
    """Return the text in one column of a row; a number is converted to text, since gold answers often are numbers.

    Args:
        row: A row of the data.
        column: The column to read.
        place: File and line of the row, for messages.
        setting: The field that names the column, for messages.

    Raises:
        Refused: the row has no such column, or its value is neither text nor a number.
    """
    if column not in row:
        suggestion = nearest(column, row) or sorted(row)
        raise Refused(
            f"{place}: the row has no column {column!r}, only {sorted(row)}; add it to the row, or name the "
            f"right column, e.g. {setting}={suggestion[0] if suggestion else '...'}"
        )
    value = row[column]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise Refused(
            f"{place}: column {column!r} holds {_kind_of(value)}; it must hold text or a number; correct the row"
        )
    if not value.strip():
        raise Refused(f"{place}: column {column!r} is blank; give it a text, or remove the row")
    if not _can_be_encoded(value):
        raise Refused(f"{place}: column {column!r} holds half of a surrogate pair (\\ud8..); correct the row")
    return value


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(
            f"{place}: this is not JSON ({error}); every line must be one JSON object; correct the line"
        ) from error
    if not isinstance(value, dict):
        raise Refused(
            f"{place}: this is {_kind_of(value)}; every line must be one JSON object; correct the line"
        )
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> Refused:
    if isinstance(error, UnicodeDecodeError):
        return Refused(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); convert it to UTF-8"
        )
    siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    similar = nearest(path.name, set(siblings) - {path.name})
    hint = (
        f"; did you mean {path.parent / similar[0]}?" if similar else "; check the path and its permissions"
    )
    return Refused(f"{path} cannot be read: {error.strerror}{hint}")


def _can_be_encoded(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind_of(value: Any) -> str:
    names = {
        type(None): "null", bool: "true or false", int: "a number", float: "a number",
        str: "a text", list: "a list", dict: "an object",
    }  # fmt: skip
    return names[type(value)]
