"""The verdict on one answer, with what was read and the rule that decided."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["correct", "wrong", "unreadable answer", "unreadable gold"]
# What the gold answer is. `auto`: as it is written, see docs/judgement.md; `text`: words, compared without case and
# formatting; `choice`: a letter; `exact`: this text and no other.
Kind = Literal["auto", "text", "choice", "exact"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one answer.

    An answer that cannot be read, parsed or compared in time is the answer's fault: `unreadable answer` scores as wrong.
    A gold answer that cannot be read is the data's: on `unreadable gold` rewards abstain.
    """

    verdict: Verdict
    how: str  # the rule that decided, in words: `equal numbers`, `several different answers`
    read: str | None = None  # the answer as it was read; None: there is none

    @property
    def is_correct(self) -> bool:
        """Whether the answer is the gold answer."""
        return self.verdict == "correct"
