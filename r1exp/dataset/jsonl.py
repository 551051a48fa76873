"""Reads problems from a file with one JSON object per line.

    {"question": "What is 1 + 1?", "answer": "2", "solution": "1 + 1 = 2"}

Without a test file, the `num_test` questions with the smallest SHA-256 are held out, so that the choice
depends only on the questions, and not on the order of lines or on the other columns. A problem's id is
the row's `id` if there is one, else that hash.
"""

import hashlib
from collections.abc import Container
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from r1exp.dataset.base import Dataset, Split
from r1exp.dataset.rows import fingerprint_of_file, read_json_lines, text_in
from r1exp.errors import Refused
from r1exp.files import hash_of
from r1exp.records import Problem
from r1exp.settings import Name


class Jsonl(Dataset):
    """Problems from JSON lines; columns that no setting names are passed to the rewards."""

    kind: Literal["jsonl"]
    path: Name | None  # training file; null in a pipeline step that takes its data from another step
    test_path: str | None  # test file; null: questions of `path` are held out instead
    num_test: NonNegativeInt  # questions held out if test_path is null
    question: Name  # column
    answer: Name  # column: the gold answer, a text or a number
    solution: Name | None  # column: the worked reasoning, optional per row; null: there is none
    limit: PositiveInt | None  # the first training problems; null: all
    test_limit: PositiveInt | None  # the first test problems; null: all

    def load(self, split: Split) -> list[Problem]:
        """Return the first `limit` problems of a split.

        Raises:
            Refused: the data cannot be read; the message names file and line.
        """
        train, test = self._two_files() if self.test_path else self._one_file()
        if split == "train":
            return train[: self.limit]
        if not test:
            raise Refused(
                "no problem is held out (dataset.num_test=0), so nothing can be evaluated; raise "
                "dataset.num_test, or give dataset.test_path=FILE.jsonl"
            )
        return test[: self.test_limit]

    def fingerprint(self) -> str:
        """Return a hash of the settings and of the files' content instead of their paths."""
        settings = self.model_dump() | {"path": self._given()}
        for name in ("path", "test_path"):
            if settings[name]:
                settings[name] = fingerprint_of_file(_path(settings[name]))
        return hash_of(settings)

    def _given(self) -> str:
        if self.path is None:
            raise Refused(
                "dataset=jsonl needs a file of problems: add dataset.path=FILE.jsonl, or use pipeline=filtered_grpo, in "
                "which an earlier step selects the problems"
            )
        return self.path

    def _two_files(self) -> tuple[list[Problem], list[Problem]]:
        train, test = self._read(self._given()), self._read(str(self.test_path))
        shared = {problem.prompt for problem in train} & {problem.prompt for problem in test}
        if shared:
            raise Refused(
                f"{len(shared)} questions are in both {self.path} and {self.test_path}, e.g. "
                f"{min(shared)[:80]!r}; a test problem must not be trained on; remove them from one file"
            )
        return train, test

    def _one_file(self) -> tuple[list[Problem], list[Problem]]:
        problems = self._read(self._given())
        questions = sorted({problem.prompt for problem in problems}, key=_sha256)
        if self.num_test >= len(questions):
            raise Refused(
                f"{self.path} has {len(questions)} different questions, and holding out dataset.num_test={self.num_test} of "
                "them leaves none to train on; lower dataset.num_test, or give dataset.test_path"
            )
        held_out = set(questions[: self.num_test])
        train = [problem for problem in problems if problem.prompt not in held_out]
        return train, [problem for problem in problems if problem.prompt in held_out]

    def _read(self, path: str) -> list[Problem]:
        problems: dict[str, Problem] = {}  # by id
        for place, row in read_json_lines(_path(path)):
            problem = self._problem(row, place, taken_ids=problems)
            problems[problem.id] = problem
        return list(problems.values())

    def _problem(self, row: dict[str, Any], place: str, taken_ids: Container[str]) -> Problem:
        question = text_in(row, self.question, place, "dataset.question")
        answer = text_in(row, self.answer, place, "dataset.answer")
        named = {self.question, self.answer, self.solution, "id"}
        columns = {name: value for name, value in row.items() if name not in named}
        taken = sorted({"prompt", "question", "answer"} & set(columns))
        if taken:
            raise Refused(
                f"{place}: the columns {taken} have names that r1exp reserves; rename them in the file, or name "
                f"one as dataset.question={taken[0]}"
            )
        if self.solution is not None and row.get(self.solution) is not None:
            columns["solution"] = text_in(row, self.solution, place, "dataset.solution")
        identity = text_in(row, "id", place, "id") if "id" in row else _sha256(question)[:16]
        return Problem(_unused(identity, taken_ids), question, answer, columns)


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _unused(identity: str, taken_ids: Container[str]) -> str:
    """Return the identity, with a number appended if an earlier row with the same question has it."""
    numbered = (f"{identity}-{number}" for number in count(2))
    return next(name for name in chain([identity], numbered) if name not in taken_ids)
