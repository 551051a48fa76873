"""The plain values that travel between the rooms: a problem that is asked, a completion that answers it.

A problem becomes one row of the data set that a trainer reads (`to_row`), and comes back from
the columns that a trainer hands to a reward (`from_row`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}

_OWN_COLUMNS = ("id", "question", "answer", "prompt")


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with, where it is known, its gold answer."""

    id: str  # unique within its data set, the same in every run
    prompt: str  # the question as a person would ask it, without system text or template
    answer: str | None = None  # gold
    columns: Mapping[str, Any] = field(default_factory=dict)  # anything else a reward may want

    def to_row(self, messages: list[Message]) -> dict[str, Any]:
        """Return the row a trainer reads; `messages` is the prompt in conversational form."""
        taken = sorted(set(self.columns) & set(_OWN_COLUMNS))
        if taken:
            raise ValueError(
                f"problem {self.id!r} has columns {taken}, names that r1exp itself uses; rename them"
            )
        return {
            **self.columns,
            "id": self.id,
            "question": self.prompt,
            "answer": self.answer,
            "prompt": messages,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Problem":
        """Return the problem that `to_row` wrote."""
        rest = {name: value for name, value in row.items() if name not in _OWN_COLUMNS}
        return cls(id=row["id"], prompt=row["question"], answer=row["answer"], columns=rest)


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer."""

    text: str
    num_tokens: int
    finished: bool = True  # False: cut at the length limit
    logprobs: tuple[float, ...] | None = None  # natural log, one a token, from the sampler
