"""Turns rows into problems: which column is the question, the answer and the worked solution.

Columns that no setting names are kept, for the rewards. Where such a column has a name that a trainer or r1exp gives to
something of its own, it is renamed: `images` becomes `row_images`.
"""

import hashlib
import json
import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from r1exp.dataset.chats import Chat, chat_of
from r1exp.dataset.extract import extracted, reasoning
from r1exp.dataset.rows import (
    Row,
    find,
    kind_of,
    refuse_what_arrow_cannot_store,
    same_text,
    text_of,
    value_in,
)
from r1exp.errors import Refused
from r1exp.records import OWN_COLUMNS, Problem

# Names that TRL 1.16's GRPO, RLOO, SFT and DPO trainers read from a row or pass to a reward function, and r1exp's own.
TAKEN_NAMES = frozenset(
    [
        "prompts",
        "completion",
        "completions",
        "completion_ids",
        "trainer_state",
        "log_extra",
        "log_metric",
        "environment",
        "environments",
        "image",
        "images",
        "messages",
        "tools",
        "chat_template_kwargs",
        "chosen",
        "rejected",
        "label",
        "labels",
        "input_ids",
        "attention_mask",
        "assistant_masks",
        "completion_mask",
        "seq_lengths",
        "completion_logprobs",
        "solution",
    ]
) | set(OWN_COLUMNS)


MESSAGES = "messages"  # column of a whole conversation, in a row without a question


@dataclass(frozen=True)
class Reader:
    """Reads problems from rows. A column may be a dotted path to a nested value.

    A row without a question but with `messages` is a chat, which needs no answer.
    """

    question: str  # column: a text, or the messages of a chat
    answer: str | None  # column: a text or a number; None: there are no gold answers
    solution: str | None  # column; may be that of the answer; null in a row without one
    identity: str | None  # column
    settings: dict[str, str]  # name of each of these -> the field that chooses it, for messages
    extract: str = "whole"  # rule for the answer
    remove: str | None = None  # regular expression, deleted from solutions
    drop: Container[str] = ()  # columns that are left out

    def problem(self, row: Row, place: str) -> Problem:
        """Return the problem of a row; its id is that of the row, or a hash of the question.

        Raises:
            Refused: the row is no problem.
        """
        chat = self._chat(row, place)
        columns = self._others(row, place)
        answer = self._answer(row, chat, place)
        solution = self._solution(row, place)
        if solution is not None:
            columns["solution"] = solution
        identity = self._identity(row, chat, place)
        return Problem(identity, chat.question, answer, columns, chat.earlier, chat.completion)

    def has_answer(self, row: Row) -> bool:
        """Whether the answer of a row can be read; a row without the column is refused later, by its name."""
        if self.answer is None or self.answer == self.question or not find(row, self.answer)[0]:
            return True
        try:
            text = text_of(find(row, self.answer)[1], self.answer, "")
            return bool(extracted(text, self.extract, self.answer, ""))
        except Refused:
            return False

    def can_test(self, problem: Problem) -> bool:
        """Whether a model can be evaluated on a problem; in data without gold answers nothing is, and all of them count."""
        return self.answer is None or problem.answer is not None

    def has_solution_column(self, row: Row) -> bool:
        """Whether the row has the column of the worked solution, be it null."""
        return self.solution is not None and find(row, self.solution)[0]

    def _chat(self, row: Row, place: str) -> Chat:
        if self._is_conversation(row):
            return chat_of(row[MESSAGES], MESSAGES, place)
        value = value_in(row, self.question, place, self.settings["question"])
        if isinstance(value, list):
            return chat_of(value, self.question, place)
        return Chat(text_of(value, self.question, place), (), None)

    def _is_conversation(self, row: Row) -> bool:
        """Whether a row has no question, but the messages of a whole conversation: chats and problems may be mixed.

        Where messages are left out (`drop`), a row without its question is a mistake.
        """
        is_read = MESSAGES not in self.drop
        return is_read and find(row, self.question)[1] is None and isinstance(row.get(MESSAGES), list)

    def _has_no_answer(self, row: Row) -> bool:
        """Whether the row is a chat that says that it has no gold answer, or leaves it out."""
        assert self.answer is not None
        found, value = find(row, self.answer)
        if self._is_conversation(row):
            return value is None
        return found and value is None and isinstance(find(row, self.question)[1], list)

    def _answer(self, row: Row, chat: Chat, place: str) -> str | None:
        if self.answer is None or (self.answer != self.question and self._has_no_answer(row)):
            return None
        if self.answer == self.question:
            if chat.completion is None:
                raise Refused(
                    f"{place}: the chat in column {self.question!r} has no last turn of the assistant to read an answer from"
                )
            return extracted(chat.completion, self.extract, self.answer, place)
        setting = self.settings["answer"]
        try:
            value = value_in(row, self.answer, place, setting)
        except Refused as error:
            if chat.completion is None:
                raise
            raise Refused(f"{error}; a chat without gold answers needs {setting}=null") from error
        return extracted(text_of(value, self.answer, place), self.extract, self.answer, place)

    def _solution(self, row: Row, place: str) -> str | None:
        if self.solution is None:
            return None
        _, value = find(row, self.solution)
        if value is None:
            return None
        text = text_of(value, self.solution, place)
        if self.solution == self.answer:
            text = reasoning(text, self.extract)
        return text if self.remove is None else re.sub(self.remove, "", text).strip()

    def _identity(self, row: Row, chat: Chat, place: str) -> str:
        identity = None if self.identity is None else find(row, self.identity)[1]
        if identity is not None:
            return text_of(identity, str(self.identity), place)
        return hashlib.sha256(key_of(chat.question, chat.earlier).encode()).hexdigest()[:16]

    def _others(self, row: Row, place: str) -> Row:
        named = {self.question, self.answer, self.solution, self.identity}
        if self._is_conversation(row):
            named.add(MESSAGES)
        found: Row = {}
        for name, value in row.items():
            if name in named or name in self.drop:
                continue
            kept = f"row_{name}" if name in TAKEN_NAMES else name
            if kept in found or (kept != name and kept in row):
                raise Refused(
                    f"{place}: the column {name!r} has a name that r1exp or the trainer uses and would become {kept!r}, which "
                    "is there already; rename one of the two in the file"
                )
            if isinstance(value, bytes):
                raise Refused(
                    f"{place}: column {name!r} holds bytes, and r1exp trains on text alone; convert it, or use dataset=hf, "
                    f"whose dataset.drop=[{name}] leaves it out"
                )
            refuse_what_arrow_cannot_store(value, name, place)
            found[kept] = value
        return found


def key_of(question: str, earlier: tuple[Any, ...]) -> str:
    """Return the text by which two problems are the same question."""
    return question if not earlier else json.dumps([*earlier, question], ensure_ascii=False)


def digest_of(problem: Problem) -> int:
    """Return the SHA-256 of a question in Unicode's composed form, so that its two encodings are one question."""
    key = same_text(key_of(problem.prompt, problem.earlier))
    return int.from_bytes(hashlib.sha256(key.encode()).digest())


class ColumnTypes:
    """Refuses a column whose rows hold different types, which Arrow cannot store. Looks at objects and lists, too."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[str, str]] = {}  # path -> (type, place)

    def add(self, columns: Row, place: str) -> None:
        """Compare one row with those before it."""
        for name, value in columns.items():
            self._add(name, value, place)

    def _add(self, path: str, value: Any, place: str) -> None:
        if value is None:
            return
        kind = kind_of(value)
        known = self._first.setdefault(path, (kind, place))
        if known[0] != kind:
            raise Refused(
                f"{place}: column {path!r} holds {kind}, and {known[0]} in {known[1]}; a column must hold one type; convert "
                "it, or use dataset=hf, whose dataset.drop=[...] leaves a column out"
            )
        if isinstance(value, dict):
            for name, item in value.items():
                self._add(f"{path}.{name}", item, place)
        elif isinstance(value, list):
            for item in value:
                self._add(f"{path}[]", item, place)
