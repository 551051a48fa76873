"""What every data set promises: two splits of problems, the same in every process."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from r1exp.records import Problem
from r1exp.settings import Settings

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")


class Dataset(Settings, ABC):
    """A source of problems. The worked reasoning, where known, stands in `columns["solution"]`."""

    kind: str

    has_answers: ClassVar[bool] = True  # a model can be measured on it
    has_pairs: ClassVar[bool] = False  # problems have the columns `chosen` and `rejected`

    @abstractmethod
    def load(self, split: Split) -> list[Problem]:
        """Return the problems of one split, in an order that never changes.

        Raises Refused, naming file and line, where the data cannot be read as problems.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a content hash that changes with anything that would change what `load` returns."""

    def count(self, split: Split) -> int | None:
        """Return the number of problems of one split; None where only a download would tell."""
        return len(self.load(split))

    def first(self, split: Split, num_problems: int) -> list[Problem]:
        """Return the first problems of one split."""
        return self.load(split)[:num_problems]
