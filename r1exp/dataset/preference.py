"""Reads preference pairs: a prompt, a chosen and a rejected answer, one JSON object per line.

    {"prompt": "What is 1 + 1?", "chosen": "2", "rejected": "3"}
    {"prompt": [{"role": "user", "content": "What is 1 + 1?"}],
     "chosen": [{"role": "assistant", "content": "2"}], "rejected": [{"role": "assistant", "content": "3"}]}

A file may mix both forms. In the conversational form, the prompt is one question by the user, with or
without a system message (which `prompt.system` replaces), and each answer is one message. A prompt with
several turns is refused, because rewards and evaluation would see only its last question.

Algorithms that sample completions use only the prompts: each prompt once, without a gold answer. stage=sft learns the chosen
answers.
"""

import hashlib
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from r1exp.dataset.base import Dataset, Split
from r1exp.dataset.readers import read_rows
from r1exp.dataset.rows import fingerprint_of_file, text_in
from r1exp.errors import Refused
from r1exp.files import hash_of
from r1exp.records import Problem
from r1exp.settings import Name


class Preference(Dataset):
    """Pairs for DPO and reward models; their prompts for PPO and GRPO with a reward model."""

    kind: Literal["preference"]
    path: Name | None  # training file; null in a pipeline step that takes its data from another step
    test_path: Name | None  # test file; null: prompts of `path` are held out
    test_share: Annotated[float, Field(ge=0.0, lt=1.0)]  # share of the prompts held out if test_path is null
    limit: PositiveInt | None  # the first training pairs; null: all

    has_answers: ClassVar[bool] = False
    has_pairs: ClassVar[bool] = True

    def load(self, split: Split) -> list[Problem]:
        """Return the pairs of one split, with the columns `chosen` and `rejected`.

        Raises:
            Refused: the data cannot be read; the message names file and line.
        """
        pairs = self._read(self._file(self.path))
        if self.test_path is not None:
            return pairs[: self.limit] if split == "train" else self._read(self._file(self.test_path))
        prompts = sorted({pair.prompt for pair in pairs}, key=_sha256)
        held_out = set(prompts[: math.ceil(self.test_share * len(prompts))])
        if len(held_out) == len(prompts):
            raise Refused(
                f"{self.path} has {len(prompts)} different prompts, and holding out dataset.test_share={self.test_share} of "
                "them leaves none to train on; lower dataset.test_share, or give dataset.test_path"
            )
        if split == "test":
            return [pair for pair in pairs if pair.prompt in held_out]
        return [pair for pair in pairs if pair.prompt not in held_out][: self.limit]

    def fingerprint(self) -> str:
        """Return a hash of the settings and of the files' content instead of their paths."""
        settings = self.model_dump()
        for name in ("path", "test_path"):
            if settings[name] is not None:
                settings[name] = fingerprint_of_file(self._file(settings[name]))
        return hash_of(settings)

    def _file(self, path: str | None) -> Path:
        if path is None:
            raise Refused(
                "dataset=preference needs a file of pairs: give dataset.path=pairs.jsonl, or use "
                "pipeline=dpo_from_rewards, which makes pairs from the policy's own answers"
            )
        return Path(path).expanduser()

    def _read(self, path: Path) -> list[Problem]:
        problems = []
        for number, (place, row) in enumerate(read_rows(path, default=".jsonl")):
            columns = {name: _answer(row, name, place) for name in ("chosen", "rejected")}
            if columns["chosen"] == columns["rejected"]:
                raise Refused(
                    f"{place}: chosen and rejected are the same text, so the pair has no preference; remove the row"
                )
            prompt = _question(row, place)
            name = f"{_sha256(prompt)[:16]}-{number}"
            problems.append(Problem(name, prompt, None, columns, completion=columns["chosen"]))
        return problems


def _question(row: dict[str, Any], place: str) -> str:
    """Return the user's question, from a text or from a conversation with one question."""
    if not isinstance(row.get("prompt"), list):
        return text_in(row, "prompt", place, "the column prompt")
    turns = [
        message for message in row["prompt"] if isinstance(message, dict) and message.get("role") != "system"
    ]
    if len(turns) != 1 or turns[0].get("role") != "user":
        raise Refused(
            f"{place}: the prompt has {len(turns)} turns; it must be one question by the user (a system message before it "
            "is allowed); put the earlier turns into the question's text"
        )
    return text_in(turns[0], "content", place, "the column prompt")


def _answer(row: dict[str, Any], column: str, place: str) -> str:
    if not isinstance(row.get(column), list):
        return text_in(row, column, place, f"the column {column}")
    messages = row[column]
    if len(messages) != 1 or not isinstance(messages[0], dict) or messages[0].get("role") != "assistant":
        raise Refused(f"{place}: {column} must be one message of the assistant, or a text; correct the row")
    return text_in(messages[0], "content", place, f"the column {column}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
