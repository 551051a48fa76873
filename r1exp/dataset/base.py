"""Base class of data sets: two splits of problems, the same in every process."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from r1exp.dataset.order import Order
from r1exp.paths import ArtifactPaths
from r1exp.records import Problem
from r1exp.settings import Name, Settings

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")


class Dataset(Settings, ABC):
    """A source of problems. The worked reasoning, if known, is in `columns["solution"]`."""

    kind: str
    # The order in which stage=sft and online RL learn the training rows (r1exp.dataset.order); null: a new random one each epoch.
    order: Order | None = Field(default=None, exclude_if=lambda value: value is None)
    # Column with the difficulty, a number; null: the length of the solution, or pass_rate.
    order_by: Name | None = Field(default=None, exclude_if=lambda value: value is None)

    has_answers: ClassVar[bool] = True  # a model can be evaluated on it
    has_pairs: ClassVar[bool] = False  # problems have the columns `chosen` and `rejected`
    has_labels: ClassVar[bool] = False  # problems have the columns `completion` and `label`

    @classmethod
    def file_in(cls, artifact: ArtifactPaths) -> Path:
        """Return the file that it reads of the artifact of an earlier step."""
        return artifact.data

    @model_validator(mode="after")
    def _there_is_an_order_by_a_column(self) -> Self:
        if self.order_by is not None and self.order not in ("easy_first", "pass_rate"):
            raise ValueError(
                f"order_by={self.order_by} names the column that easy_first and pass_rate sort by; give dataset.order=easy_first, "
                "or leave dataset.order_by out"
            )
        return self

    @property
    def order_settings(self) -> dict[str, str]:
        """The settings of an order; none where training shuffles the rows."""
        given = {"order": self.order, "order_by": self.order_by}
        return {name: value for name, value in given.items() if value is not None}

    def unordered(self) -> Self:
        """Return the same data set in the order of its data, which is what it contains."""
        return self.model_copy(update={"order": None, "order_by": None}) if self.order else self

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

    def has_test_problems(self, *, with_download: bool = False) -> bool:
        """Return whether the test split has problems.

        Args:
            with_download: Ask the hub where the data are there; without, a data set of the hub counts as having some.
        """
        del with_download
        return self.has_split("test")

    def check_source(self) -> None:
        """Raise Refused if data that are downloaded cannot be; called before a run starts, not by `plan`."""
        return

    def notes(self) -> list[str]:
        """Return what `plan` says about where the data are."""
        return []

    def unteachable(self) -> str | None:
        """Return which training problem SFT cannot learn from, and where it is; None if there is none, or unknown."""
        return None
