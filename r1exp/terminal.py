"""Writes a line for the user: progress and messages to standard error, results to standard output."""

import sys
from collections.abc import Sequence


def say(text: str, end: str = "\n") -> None:
    """Write a message to standard error."""
    sys.stderr.write(text + end)
    sys.stderr.flush()


def show(text: str, end: str = "\n") -> None:
    """Write a result to standard output."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return one line for each row, with the cells of a column below each other, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
