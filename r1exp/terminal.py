"""Writes a line for the user: progress and messages to standard error, results to standard output."""

import sys


def say(text: str, end: str = "\n") -> None:
    """Write a message to standard error."""
    sys.stderr.write(text + end)
    sys.stderr.flush()


def show(text: str, end: str = "\n") -> None:
    """Write a result to standard output."""
    sys.stdout.write(text + end)
    sys.stdout.flush()
