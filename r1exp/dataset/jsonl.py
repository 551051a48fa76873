"""Reads problems from a file with one JSON object per line.

    {"question": "What is 1 + 1?", "answer": "2", "solution": "1 + 1 = 2"}

A row may hold `messages` instead, a whole conversation that SFT learns (`r1exp.dataset.chats`); it needs no answer.

Without a test file, `num_test` questions are held out (`r1exp.dataset.table`). A problem's id is the row's `id` if there
is one, else a hash of its question.
"""

from pathlib import Path
from typing import Literal

from r1exp.dataset.columns import Reader
from r1exp.dataset.rows import fingerprint_of_file
from r1exp.dataset.sources import Files
from r1exp.dataset.table import Splits, Table
from r1exp.errors import Refused
from r1exp.files import hash_of
from r1exp.settings import Name


class Jsonl(Table):
    """Problems from JSON lines; columns that no setting names are passed to the rewards."""

    kind: Literal["jsonl"]
    path: Name | None  # training file; null in a pipeline step that takes its data from another step
    test_path: str | None  # test file; null: questions of `path` are held out instead
    question: Name  # column
    answer: Name  # column: the gold answer, a text or a number
    solution: Name | None  # column: the worked reasoning, optional per row; null: there is none

    @property
    def has_test_split(self) -> bool:
        """Whether there is a test file."""
        return bool(self.test_path)

    def splits(self) -> Splits:
        """Return the two files."""
        test = Files((_path(self.test_path),), default=".jsonl") if self.test_path else None
        return Splits(Files((self._given(),), default=".jsonl"), test)

    def reader(self) -> Reader:
        """Return how a row becomes a problem."""
        settings = {name: f"dataset.{name}" for name in ("question", "answer", "solution")}
        return Reader(self.question, self.answer, self.solution, "id", settings)

    def fingerprint(self) -> str:
        """Return a hash of the settings and of the files' content instead of their paths."""
        settings = self.model_dump() | {"path": fingerprint_of_file(self._given())}
        if self.test_path:
            settings["test_path"] = fingerprint_of_file(_path(self.test_path))
        return hash_of(settings)

    def _given(self) -> Path:
        if self.path is None:
            raise Refused(
                "dataset=jsonl needs a file of problems: add dataset.path=FILE.jsonl, or use pipeline=filtered_grpo, in "
                "which an earlier step selects the problems"
            )
        return _path(self.path)


def _path(text: str) -> Path:
    return Path(text).expanduser()
