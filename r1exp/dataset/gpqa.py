"""Multiple-choice questions whose right and wrong answers are columns of their own, as in GPQA.

    What is the charge of an electron?        Correct Answer: -1     Incorrect Answer 1: +1, ...

The question of a problem lists the options behind letters, in an order that is drawn from `seed` and the question: it does not
depend on the order of rows. The gold answer is the letter of the right option, and the options are in the column `choices`,
where `rewards=choice` reads them.

Source: GPQA (arXiv:2311.12022), whose authors shuffle the options too.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt

from r1exp.dataset.columns import Reader
from r1exp.dataset.hf import Hf
from r1exp.dataset.rows import Row, text_in
from r1exp.errors import Refused
from r1exp.records import Problem
from r1exp.settings import Name

_LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class ChoiceReader(Reader):
    """Reads a question with its options."""

    wrong: Sequence[str] = ()  # columns
    kept: Sequence[str] = ()  # columns for the rewards
    seed: int = 0

    def problem(self, row: Row, place: str) -> Problem:
        """Return the problem of a row.

        Raises:
            Refused: a column does not exist or is blank, or two options are the same text.
        """
        found = super().problem(
            {name: row[name] for name in row if name in self._read() or name in self.kept}, place
        )
        assert found.answer is not None
        wrong = [text_in(row, name, place, "dataset.wrong") for name in self.wrong]
        options = [text.strip() for text in (found.answer, *wrong)]
        if len(set(options)) < len(options):
            raise Refused(f"{place}: two options are the same text; correct the row, or remove it")
        random.Random(f"{self.seed} {found.prompt}").shuffle(options)
        listed = "\n".join(f"{letter}) {text}" for letter, text in zip(_LETTERS, options, strict=False))
        columns = {name: value for name, value in found.columns.items() if name not in self.wrong}
        return replace(
            found,
            prompt=f"{found.prompt.strip()}\n\n{listed}\n\nAnswer with the letter of the right option.",
            answer=_LETTERS[options.index(found.answer.strip())],
            columns={**columns, "choices": options},
        )

    def _read(self) -> set[str]:
        named = (self.question, self.answer, self.solution, self.identity)
        return {name.split(".")[0] for name in (*named, *self.wrong) if name is not None}


class Gpqa(Hf):
    """Questions with one right and several wrong answers."""

    kind: Literal["gpqa"]  # type: ignore[assignment]  # another kind than its base
    wrong: Annotated[
        tuple[Name, ...], Field(min_length=1, max_length=len(_LETTERS) - 1)
    ]  # columns of the wrong answers
    kept: tuple[Name, ...]  # columns that are kept for the rewards, besides `choices`
    seed: NonNegativeInt  # of the order of the options

    def reader(self) -> Reader:
        """Return how a row becomes a problem."""
        base = super().reader()
        values = {entry.name: getattr(base, entry.name) for entry in fields(Reader)}
        return ChoiceReader(**values, wrong=self.wrong, kept=self.kept, seed=self.seed)
