"""Reads preference pairs: a prompt, a chosen and a rejected answer, one JSON object per line.

    {"prompt": "What is 1 + 1?", "chosen": "2", "rejected": "3"}
    {"prompt": [{"role": "user", "content": "What is 1 + 1?"}],
     "chosen": [{"role": "assistant", "content": "2"}], "rejected": [{"role": "assistant", "content": "3"}]}

A file may mix both forms. In the conversational form, the prompt is one question by the user, with or
without a system message (which `prompt.system` replaces), and each answer is one message, or the question again and the
answer, as in UltraFeedback. A prompt with several turns is refused, because rewards and evaluation would see only its last
question. The pairs are those of a file, of a folder, or of the hub.

Algorithms that sample completions use only the prompts: each prompt once, without a gold answer. stage=sft learns the chosen
answers.
"""

import hashlib
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt

from r1exp.dataset.base import Dataset, Split
from r1exp.dataset.rows import text_in
from r1exp.dataset.sources import Files, Source, check_hub, located, sources, split_named
from r1exp.errors import Refused
from r1exp.files import hash_of
from r1exp.hub import commit_of
from r1exp.records import Problem
from r1exp.settings import Name


def _is_null(value: Any) -> bool:
    return value is None


class Preference(Dataset):
    """Pairs for DPO and reward models; their prompts for PPO and GRPO with a reward model."""

    kind: Literal["preference"]
    path: Name | None  # file, folder or hub id; null in a pipeline step that takes its data from another step
    test_path: (
        Name | None
    )  # test file; null: the split `test`, or where that is null prompts of `path` are held out
    test_share: Annotated[float, Field(ge=0.0, lt=1.0)]  # share of the prompts held out if test_path is null
    limit: PositiveInt | None  # the first training pairs; null: all
    subset: Name | None = Field(default=None, exclude_if=_is_null)  # subset on the hub; null: its default
    revision: Name | None = Field(
        default=None, exclude_if=_is_null
    )  # branch, tag or commit on the hub; null: the main branch
    train: Name | None = Field(
        default=None, exclude_if=_is_null
    )  # training split of a folder or hub id; null: `train`
    test: Name | None = Field(
        default=None, exclude_if=_is_null
    )  # test split of it; null: prompts are held out
    # What is done with pairs whose answers are the same text, or one of them blank.
    unusable: Literal["refuse", "drop"] = Field(default="refuse", exclude_if=lambda rule: rule == "refuse")

    has_answers: ClassVar[bool] = False
    has_pairs: ClassVar[bool] = True

    def load(self, split: Split) -> list[Problem]:
        """Return the pairs of one split, with the columns `chosen` and `rejected`.

        Raises:
            Refused: the data cannot be read; the message names file and line.
        """
        train, test = self._sources()
        if test is not None:
            return self._read(test) if split == "test" else self._read(train)[: self.limit]
        pairs = self._read(train)
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

    def has_test_problems(self, *, with_download: bool = False) -> bool:
        """Return whether there is a test file, or prompts are held out."""
        del with_download
        return self.test_path is not None or self.test is not None or self.test_share > 0.0

    def fingerprint(self) -> str:
        """Return a hash of the settings and of the files' content instead of their paths."""
        settings = self.model_dump()
        if self.is_local:
            train, test = self._sources()
            settings["path"] = train.fingerprint()
            if test is not None:
                settings["test_path"] = test.fingerprint()
        return hash_of(settings)

    @property
    def is_local(self) -> bool:
        """Whether the pairs are on this machine; if not, they are downloaded when the run starts."""
        return not isinstance(self._located(), str)

    def count(self, split: Split) -> int | None:
        """Return the number of pairs, or None if they are on the hub."""
        return super().count(split) if self.is_local else None

    def pinned(self) -> Self:
        """Return the same pairs with the commit of their revision, if they are on the hub and it can be found."""
        place = None if self.path is None else self._located()
        commit = commit_of(place, self.revision, "dataset") if isinstance(place, str) else None
        return self if commit is None else self.model_copy(update={"revision": commit})

    def check_source(self) -> None:
        """Raise Refused if the pairs are on the hub, and there is no such data set or no network."""
        place = self._located()
        if isinstance(place, str):
            check_hub(place, self.revision)

    def notes(self) -> list[str]:
        """Return that the pairs are on the hub: a path that is not on this machine may be a slip."""
        if self.path is None or self.is_local:
            return []
        return [
            f"dataset.path={self.path} is on the hub (no such folder here); it is downloaded when the run starts"
        ]

    def _located(self) -> Path | str:
        """Return the file or folder of `path`, or its hub id; a path with an unknown ending is a file of JSON lines."""
        given = self._given()
        place = Path(given).expanduser()
        return place if place.is_file() else located(given, "dataset.path")

    def _sources(self) -> tuple[Source, Source | None]:
        """Return where the training and the test pairs are; None: prompts are held out."""
        place = self._located()
        if isinstance(place, Path) and place.is_file():
            train: Source = Files((place,), default=".jsonl")
            found: dict[str, Source] = {}
        else:
            splits = sources(self._given(), self.subset, self.revision, "dataset.path")
            found = {"train": splits} if isinstance(splits, Source) else splits
            train = split_named(found, self.train or "train", self._given(), "dataset.train")
        if self.test_path is not None:
            return train, Files((Path(self.test_path).expanduser(),), default=".jsonl")
        return train, None if self.test is None else split_named(
            found, self.test, self._given(), "dataset.test"
        )

    def _given(self) -> str:
        if self.path is None:
            raise Refused(
                "dataset=preference needs a file of pairs: give dataset.path=pairs.jsonl, or use "
                "pipeline=dpo_from_rewards, which makes pairs from the policy's own answers"
            )
        return self.path

    def _read(self, source: Source) -> list[Problem]:
        problems = []
        for number, (place, row) in enumerate(source.rows()):
            if self.unusable == "drop" and not _is_usable(row):
                continue
            prompt = question_in(row, place)
            columns = {name: answer_in(row, name, prompt, place) for name in ("chosen", "rejected")}
            if columns["chosen"] == columns["rejected"]:
                raise Refused(
                    f"{place}: chosen and rejected are the same text, so the pair has no preference; remove the row, or "
                    "leave such pairs out with dataset.unusable=drop"
                )
            name = f"{_sha256(prompt)[:16]}-{number}"
            problems.append(Problem(name, prompt, None, columns, completion=columns["chosen"]))
        return problems


def _is_usable(row: dict[str, Any]) -> bool:
    """Return whether the two answers are there and differ; what is no answer at all is refused when it is read."""
    texts = [_last_text(row.get(name)) for name in ("chosen", "rejected")]
    return all(texts) and texts[0] != texts[1]


def _last_text(value: Any) -> str:
    message = value[-1] if isinstance(value, list) and value else value
    content = message.get("content") if isinstance(message, dict) else message
    return content.strip() if isinstance(content, str) else ""


def question_in(row: dict[str, Any], place: str) -> str:
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


def answer_in(row: dict[str, Any], column: str, prompt: str, place: str) -> str:
    if not isinstance(row.get(column), list):
        return text_in(row, column, place, f"the column {column}")
    messages = [
        message
        for message in row[column]
        if not (
            isinstance(message, dict) and message.get("role") == "user" and message.get("content") == prompt
        )
    ]
    if len(messages) != 1 or not isinstance(messages[0], dict) or messages[0].get("role") != "assistant":
        raise Refused(f"{place}: {column} must be one message of the assistant, or a text; correct the row")
    return text_in(messages[0], "content", place, f"the column {column}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
