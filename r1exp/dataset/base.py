"""Base class of data sets: two splits of problems, the same in every process."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal, Self

from r1exp.records import Problem
from r1exp.settings import Settings

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")


class Dataset(Settings, ABC):
    """A source of problems. The worked reasoning, if known, is in `columns["solution"]`."""

    kind: str

    has_answers: ClassVar[bool] = True  # a model can be evaluated on it
    has_pairs: ClassVar[bool] = False  # problems have the columns `chosen` and `rejected`

    @abstractmethod
    def load(self, split: Split) -> list[Problem]:
        """Return the problems of one split, always in the same order.

        Raises:
            Refused: the data cannot be read as problems; the message names file and line.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash that changes with everything that changes the result of `load`."""

    def has_split(self, split: Split) -> bool:
        """Return whether there are problems of one split, as far as the settings say."""
        del split
        return True

    def members(self) -> "tuple[Dataset, ...]":
        """Return this data set; of one that consists of others, those too."""
        return (self,)

    def artifacts(self, split: Split) -> frozenset[str]:
        """Return the earlier steps of the pipeline whose artifacts one split reads; of most data sets none."""
        del split
        return frozenset()

    def pinned(self) -> Self:
        """Return the same data set with the commit instead of a branch or tag, where a hub knows it."""
        return self

    def fingerprint_of(self, split: Split) -> str:
        """Return a hash that changes with everything that changes one split; a data set may have a finer one."""
        del split
        return self.fingerprint()

    def count(self, split: Split) -> int | None:
        """Return the number of problems of one split, or None if it is unknown before a download."""
        return len(self.load(split))

    def first(self, split: Split, num_problems: int) -> list[Problem]:
        """Return the first problems of one split."""
        return self.load(split)[:num_problems]

    def stream(self, split: Split) -> Iterator[Problem]:
        """Yield the problems of one split; a large data set overrides it, so as not to hold them all in memory."""
        return iter(self.load(split))

    def own_validation(self) -> Iterator[Problem] | None:
        """Return the problems of the data set's own validation split, none of them in the test split; None: it has none."""
        return None

    def validation_fingerprint(self) -> str | None:
        """Return a hash that changes with the data set's own validation split; None: it has none, or `fingerprint` covers it."""
        return None

    def check_source(self) -> None:
        """Raise Refused if data that are downloaded cannot be; called before a run starts, not by `plan`."""
        return

    def notes(self) -> list[str]:
        """Return what `plan` says about where the data are."""
        return []

    def unteachable(self) -> str | None:
        """Return which training problem SFT cannot learn from, and where it is; None if there is none, or unknown."""
        return None
