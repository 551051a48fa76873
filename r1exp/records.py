"""The records that all packages share: a problem, and a completion that answers it.

`Problem.to_row` converts a problem to a row of the data set that a trainer reads; `Problem.from_row` converts the
columns that a trainer passes to a reward back to a problem.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}

# `earlier_messages` is in the rows of chats only.
OWN_COLUMNS = ("id", "question", "answer", "prompt", "earlier_messages")


@dataclass(frozen=True, slots=True)
class Problem:
    """A question and, if it is known, its gold answer."""

    id: str  # unique within its data set, the same in every run
    prompt: str  # the question, without system text or template
    answer: str | None = None  # gold answer
    columns: Mapping[str, Any] = field(default_factory=dict)  # further columns, which rewards may read
    earlier: tuple[Message, ...] = ()  # of a chat: its own system text, and the turns before the question
    completion: str | None = None  # of a chat: the assistant's whole answer, which SFT learns as it is

    @property
    def messages(self) -> list[Message]:
        """The conversation up to and including the question."""
        return [*self.earlier, {"role": "user", "content": self.prompt}]

    @property
    def text(self) -> str:
        """The question; of a chat with earlier turns, all of them, each after the name of its role."""
        if not self.earlier:
            return self.prompt
        return "\n\n".join(f"{message['role']}: {message['content']}" for message in self.messages)

    def to_row(self, messages: list[Message]) -> dict[str, Any]:
        """Return the row that a trainer reads; `messages` is the prompt in conversational form.

        Raises:
            ValueError: a further column has a name that r1exp uses.
        """
        taken = sorted(set(self.columns) & set(OWN_COLUMNS))
        if taken:
            raise ValueError(
                f"problem {self.id!r} has columns {taken}, which are names that r1exp uses; rename them"
            )
        earlier = {"earlier_messages": list(self.earlier)} if self.earlier else {}
        return {
            **self.columns,
            **earlier,
            "id": self.id,
            "question": self.prompt,
            "answer": self.answer,
            "prompt": messages,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Problem":
        """Return the problem of a row that `to_row` returned."""
        rest = {name: value for name, value in row.items() if name not in OWN_COLUMNS}
        earlier = tuple(row.get("earlier_messages") or ())
        return cls(row["id"], row["question"], row["answer"], rest, earlier)


@dataclass(frozen=True, slots=True)
class Completion:
    """A sampled answer to a problem."""

    text: str
    num_tokens: int
    finished: bool = True  # False: truncated at the length limit
    logprobs: tuple[float, ...] | None = None  # natural log-probability of each token, from the sampler
    reasoning: str | None = None  # what an endpoint returned apart from the text; `num_tokens` counts both
    num_prompt_tokens: int | None = field(default=None, compare=False)  # None: not counted
    finish_reason: str | None = field(
        default=None, compare=False
    )  # the endpoint's own word; None: it has none
