"""Reads answers that are labelled good or bad, one JSON object per line.

    {"prompt": "What is 1 + 1?", "completion": "2", "label": true}
    {"prompt": [{"role": "user", "content": "What is 1 + 1?"}], "completion": [{"role": "assistant", "content": "3"}], "label": false}
    {"prompt": "What is 1 + 1?", "answers": [{"text": "2", "right": true}, {"text": "3", "right": false}]}

The last form is a line of samples.jsonl, written by stage=sample: each answer that could be judged is a row. A blank answer has
no token to learn from and is left out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from r1exp.dataset.base import Dataset, Split
from r1exp.dataset.preference import answer_in, question_in
from r1exp.dataset.readers import read_rows
from r1exp.dataset.rows import fingerprint_of_file, text_in
from r1exp.errors import Refused
from r1exp.files import hash_of
from r1exp.paths import ArtifactPaths
from r1exp.records import Problem
from r1exp.settings import Name


class Labelled(Dataset):
    """Answers with a label, for KTO; all of them are training data."""

    kind: Literal["labelled"]
    path: Name | None  # training file; null in a pipeline step that takes its data from another step
    limit: PositiveInt | None  # the first training answers; null: all

    has_answers: ClassVar[bool] = False
    has_labels: ClassVar[bool] = True

    @classmethod
    def file_in(cls, artifact: ArtifactPaths) -> Path:
        """Return the file with all answers of stage=sample."""
        return artifact.samples

    def load(self, split: Split) -> list[Problem]:
        """Return the answers of one split, with the columns `completion` and `label`; the test split is empty.

        Raises:
            Refused: the data cannot be read, or have no labelled answer; the message names file and line.
        """
        if split == "test":
            return []
        if self.path is None:
            raise Refused(
                "dataset=labelled needs a file of labelled answers: give dataset.path=answers.jsonl, or use "
                "pipeline=kto_from_rewards, which labels the policy's own answers"
            )
        found = list(self._answers(Path(self.path).expanduser()))[: self.limit]
        if not found:
            raise Refused(
                f"{self.path} has no answer with a label: its answers are blank, or could not be judged; sample more of them"
            )
        return found

    def fingerprint(self) -> str:
        """Return a hash of the settings and of the file's content instead of its path."""
        settings = self.model_dump()
        if self.path is not None:
            settings["path"] = fingerprint_of_file(Path(self.path).expanduser())
        return hash_of(settings)

    def _answers(self, path: Path) -> Iterator[Problem]:
        for number, (place, row) in enumerate(read_rows(path, default=".jsonl")):
            if "answers" in row:
                yield from _sampled(row, number, place)
                continue
            label = row.get("label")
            if not isinstance(label, bool):
                raise Refused(
                    f"{place}: the column label is {label!r}; it must be true (good) or false (bad)"
                )
            prompt = question_in(row, place)
            columns = {"completion": answer_in(row, "completion", prompt, place), "label": label}
            yield Problem(str(number), prompt, None, columns)


def _sampled(row: dict[str, Any], number: int, place: str) -> Iterator[Problem]:
    """Yield the judged answers of a line of samples.jsonl."""
    if row.get("earlier"):
        raise Refused(f"{place}: the prompt has several turns; algorithm=kto learns from single questions")
    question = text_in(row, "prompt", place, "the column prompt")
    for index, answer in enumerate(row["answers"]):
        if answer["right"] is not None and answer["text"].strip():
            columns = {"completion": answer["text"], "label": answer["right"]}
            yield Problem(f"{number}-{index}", question, None, columns)
