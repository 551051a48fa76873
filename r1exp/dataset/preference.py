"""Preference pairs: a prompt, an answer that was chosen and one that was rejected, one JSON object a line.

    {"prompt": "What is 1 + 1?", "chosen": "2", "rejected": "3"}
    {"prompt": [{"role": "user", "content": "What is 1 + 1?"}],
     "chosen": [{"role": "assistant", "content": "2"}], "rejected": [{"role": "assistant", "content": "3"}]}

Both forms may stand in one file. In the conversational one the prompt is one question by the user, with
or without a system message (prompt.system is used instead), and each answer one message; a prompt with
several turns is refused, because no reward and no evaluation here would see more than its last question.

For algorithms that sample, a pair is its prompt: each prompt once, without a gold answer.
"""

import hashlib
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from r1exp.dataset.base import Dataset, Split
from r1exp.dataset.rows import fingerprint_of_file, read_json_lines, text_in
from r1exp.errors import Refused
from r1exp.files import hash_of
from r1exp.records import Problem
from r1exp.settings import Name


class Preference(Dataset):
    """Pairs for DPO and reward models; their prompts for PPO and GRPO against a reward model."""

    kind: Literal["preference"]
    path: Name | None  # the file to train on; in a ladder null: the pairs of the step it takes its data from
    test_path: Name | None  # the file to measure on; null: prompts of `path` are held out
    test_share: Annotated[float, Field(ge=0.0, lt=1.0)]  # of the prompts, held out where test_path is null
    limit: PositiveInt | None  # training pairs, the first ones; null: all

    has_answers: ClassVar[bool] = False
    has_pairs: ClassVar[bool] = True

    def load(self, split: Split) -> list[Problem]:
        """Return the pairs of one split, with the columns `chosen` and `rejected`.

        Raises Refused naming the file and line at fault.
        """
        pairs = self._read(self._file(self.path))
        if self.test_path is not None:
            return pairs[: self.limit] if split == "train" else self._read(self._file(self.test_path))
        prompts = sorted({pair.prompt for pair in pairs}, key=_sha256)
        held_out = set(prompts[: math.ceil(self.test_share * len(prompts))])
        if len(held_out) == len(prompts):
            raise Refused(
                f"{self.path} holds {len(prompts)} different prompts, and dataset.test_share={self.test_share} of them held "
                "out leaves none to train on; lower dataset.test_share, or give dataset.test_path"
            )
        if split == "test":
            return [pair for pair in pairs if pair.prompt in held_out]
        return [pair for pair in pairs if pair.prompt not in held_out][: self.limit]

    def fingerprint(self) -> str:
        """Return a hash of the settings and of the files' bytes, wherever they lie."""
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
        for number, (place, row) in enumerate(read_json_lines(path)):
            columns = {name: _answer(row, name, place) for name in ("chosen", "rejected")}
            if columns["chosen"] == columns["rejected"]:
                raise Refused(
                    f"{place}: chosen and rejected are the same text, which teaches nothing; take the row out"
                )
            prompt = _question(row, place)
            problems.append(Problem(f"{_sha256(prompt)[:16]}-{number}", prompt, None, columns))
        return problems


def _question(row: dict[str, Any], place: str) -> str:
    """Return the user's question, from a text or from a conversation that is one question."""
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
