"""Reads a column that holds a conversation: a list of messages.

    [{"role": "system", "content": ...}, {"role": "user", "content": ...}, {"role": "assistant", "content": ...}]

The last turn of the user is the question. A turn of the assistant after it is the completion that SFT learns. What
comes before is given to the model with the question. ShareGPT's form ({"from": "human", "value": ...}) is read too.
"""

from dataclasses import dataclass
from typing import Any

from r1exp.dataset.rows import kind_of, text_of
from r1exp.errors import Refused
from r1exp.records import Message

_ROLES = {"human": "user", "gpt": "assistant", "system": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class Chat:
    """A conversation, divided at its last question."""

    question: str
    earlier: tuple[Message, ...]  # system text and earlier turns
    completion: str | None  # the assistant's turn after the question


def chat_of(messages: list[Any], column: str, place: str) -> Chat:
    """Return the conversation in a column.

    Raises:
        Refused: it is none: other roles, turns that do not alternate, images, or no question.
    """
    turns = [_message(message, f"{column}.{number}", place) for number, message in enumerate(messages)]
    completion = turns.pop()["content"] if turns and turns[-1]["role"] == "assistant" else None
    first = 1 if turns and turns[0]["role"] == "system" else 0
    expected = ["user", "assistant"] * len(turns)
    roles = [turn["role"] for turn in turns[first:]]
    if not roles or roles != expected[: len(roles)] or roles[-1] != "user":
        found = [turn["role"] for turn in turns] + ([] if completion is None else ["assistant"])
        raise Refused(
            f"{place}: the messages in column {column!r} have the roles {found}; after at most one system message, user and "
            "assistant must take turns, the user first; correct the row"
        )
    return Chat(turns[-1]["content"], tuple(turns[:-1]), completion)


def _message(message: Any, column: str, place: str) -> Message:
    if not isinstance(message, dict):
        raise Refused(
            f"{place}: column {column!r} holds {kind_of(message)}; a message is an object with role and content, as "
            '{"role": "user", "content": "1 + 1?"}'
        )
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    if role not in _ROLES:
        raise Refused(
            f"{place}: column {column!r} has the role {role!r}; it must be system, user or assistant"
        )
    if isinstance(content, list):
        content = _joined(content, column, place)
    return {"role": _ROLES[role], "content": text_of(content, f"{column}.content", place)}


def _joined(parts: list[Any], column: str, place: str) -> str:
    """Return the text of a content that is a list of parts."""
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise Refused(
            f"{place}: column {column!r} holds more than text; r1exp trains on text alone; remove the row"
        )
    return "".join(str(text) for text in texts)
