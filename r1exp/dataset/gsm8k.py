"""Reads GSM8K: grade-school word problems with worked solutions.

A row's `answer` is the solution, with calculator annotations such as `<<48/2=24>>`, and a last line
`#### 72` with the gold answer. The annotations are removed, because r1exp runs no calculator.

Source: arXiv:2110.14168, https://huggingface.co/datasets/openai/gsm8k (MIT).
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt

from r1exp.dataset.base import SPLITS, Dataset, Split
from r1exp.dataset.rows import fingerprint_of_file, read_json_lines, text_in
from r1exp.errors import Refused
from r1exp.files import hash_of
from r1exp.records import Problem
from r1exp.settings import Name


class Gsm8k(Dataset):
    """GSM8K from the Hugging Face hub or from a folder."""

    kind: Literal["gsm8k"]
    path: Name  # hub id, or a folder with train.jsonl and test.jsonl, or with the hub's parquet files
    config: Name  # subset on the hub
    revision: Name | None  # branch, tag or commit on the hub; null: the main branch
    limit: PositiveInt | None  # training problems; null: all 7,473
    test_limit: PositiveInt | None  # test problems; null: all 1,319

    def load(self, split: Split) -> list[Problem]:
        """Return the first `limit` problems of a split.

        Raises:
            Refused: the data cannot be found, downloaded or read.
        """
        limit = self.limit if split == "train" else self.test_limit
        problems = []
        for number, (place, row) in enumerate(self._rows(split)):
            if number == limit:
                break
            question = text_in(row, "question", place, "dataset.path")
            solution, gold = split_solution(text_in(row, "answer", place, "dataset.path"), place)
            columns = {"solution": solution}
            problems.append(Problem(f"gsm8k-{split}-{number:04d}", question, gold, columns))
        return problems

    def count(self, split: Split) -> int | None:
        """Return the number of problems, or None for a hub id, which is downloaded when the run starts."""
        return None if self._folder() is None else super().count(split)

    def fingerprint(self) -> str:
        """Return a hash of the settings and, for a local folder, of the files' content instead of their path."""
        settings = self.model_dump()
        folder = self._folder()
        if folder is not None:
            files = {split: self._file(folder, split) for split in SPLITS}
            settings["path"] = {split: fingerprint_of_file(file) for split, file in files.items()}
        return hash_of(settings)

    def _rows(self, split: Split) -> Iterable[tuple[str, dict[str, Any]]]:
        folder = self._folder()
        if folder is None:
            return self._hub_rows(split)
        file = self._file(folder, split)
        return read_json_lines(file) if file.suffix == ".jsonl" else _parquet_rows(file)

    def _folder(self) -> Path | None:
        """Return the local folder, or None if `path` is a hub id."""
        folder = Path(self.path).expanduser()
        if folder.is_dir():
            return folder
        if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", self.path) is None:
            raise Refused(
                f"dataset.path={self.path} is neither a folder on this machine nor a hub id (owner/name); give a folder "
                "with train.jsonl and test.jsonl, or dataset.path=openai/gsm8k"
            )
        return None

    def _file(self, folder: Path, split: str) -> Path:
        patterns = (f"{split}.jsonl", f"{self.config}/{split}-*.parquet", f"{split}-*.parquet")
        for pattern in patterns:
            files = sorted(folder.glob(pattern))
            if len(files) == 1:
                return files[0]
        raise Refused(f"{folder} has none of {', '.join(patterns)}; give another dataset.path")

    def _hub_rows(self, split: Split) -> Iterable[tuple[str, dict[str, Any]]]:
        from datasets import load_dataset  # imported late: takes 1 s, and only hub ids need it

        try:
            rows = load_dataset(self.path, self.config, split=split, revision=self.revision)
        except (OSError, ValueError) as error:  # not found, no network, no such subset
            raise Refused(
                f"{self.path} ({self.config}, {split}) could not be downloaded from the hub: {error}; check the name and "
                "the network, or give a local folder with dataset.path=FOLDER"
            ) from error
        return ((f"{self.path}, {split}, row {number}", row) for number, row in enumerate(rows))


def split_solution(answer: str, place: str) -> tuple[str, str]:
    """Return (solution without calculator annotations, gold answer).

    Raises:
        Refused: the answer has no last line `#### gold`; the message names `place`.
    """
    solution, mark, gold = answer.rpartition("####")
    if not mark or not gold.strip():
        raise Refused(
            f"{place}: the answer has no last line `#### gold`, as every row of GSM8K has; correct the row, "
            "or use dataset=jsonl for data in another format"
        )
    return re.sub(r"<<[^<>]*>>", "", solution).strip(), gold.strip()


def _parquet_rows(file: Path) -> list[tuple[str, dict[str, Any]]]:
    import pyarrow  # type: ignore[import-untyped]  # it has no type hints
    from pyarrow import parquet

    try:
        rows = parquet.read_table(file).to_pylist()
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise Refused(f"{file} cannot be read as parquet: {error}; download it again") from error
    return [(f"{file}, row {number}", row) for number, row in enumerate(rows)]
