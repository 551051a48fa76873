"""The records that all packages share: a problem, and a completion that answers it.

`Problem.to_row` converts a problem to a row of the data set that a trainer reads; `Problem.from_row` converts the
columns that a trainer passes to a reward back to a problem.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}

_OWN_COLUMNS = ("id", "question", "answer", "prompt")


@dataclass(frozen=True, slots=True)
class Problem:
    """A question and, if it is known, its gold answer."""

    id: str  # unique within its data set, the same in every run
    prompt: str  # the question, without system text or template
    answer: str | None = None  # gold answer
    columns: Mapping[str, Any] = field(default_factory=dict)  # further columns, which rewards may read

    def to_row(self, messages: list[Message]) -> dict[str, Any]:
        """Return the row that a trainer reads; `messages` is the prompt in conversational form.

        Raises:
            ValueError: a further column has a name that r1exp uses.
        """
        taken = sorted(set(self.columns) & set(_OWN_COLUMNS))
        if taken:
            raise ValueError(
                f"problem {self.id!r} has columns {taken}, which are names that r1exp uses; rename them"
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
        """Return the problem of a row that `to_row` returned."""
        rest = {name: value for name, value in row.items() if name not in _OWN_COLUMNS}
        return cls(id=row["id"], prompt=row["question"], answer=row["answer"], columns=rest)


@dataclass(frozen=True, slots=True)
class Completion:
    """A sampled answer to a problem."""

    text: str
    num_tokens: int
    finished: bool = True  # False: truncated at the length limit
    logprobs: tuple[float, ...] | None = None  # natural log-probability of each token, from the sampler
