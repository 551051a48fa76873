"""Names the steps that may run: `--from STEP`, `--until STEP` and `--only STEP`, which is both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from r1exp.errors import Refused
from r1exp.settings import nearest


class NamedStep(Protocol):
    """What a range reads of a planned step."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def belongs_to(self) -> str:
        """The step of the pipeline that it is, or that it evaluates."""


@dataclass(frozen=True)
class StepRange:
    """The steps from `first` to `last`, each with the evaluations of its model; None: from the first, to the last step."""

    first: str | None = None
    last: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every step may run."""
        return self.first is None and self.last is None

    @property
    def text(self) -> str:
        """The range as it is typed."""
        if self.first == self.last and self.first is not None:
            return f"--only {self.first}"
        words = [("--from", self.first), ("--until", self.last)]
        return " ".join(f"{word} {name}" for word, name in words if name is not None)

    def positions(self, steps: Sequence[NamedStep]) -> range:
        """Return the positions of the steps that may run.

        A step of the pipeline stands for itself and the evaluations between the steps that measure its model; an evaluation
        is named by its own name.

        Raises:
            Refused: there is no such step, or the last one comes before the first.
        """
        first = 0 if self.first is None else self._positions_of(self.first, steps)[0]
        last = len(steps) - 1 if self.last is None else self._positions_of(self.last, steps)[-1]
        if first > last:
            raise Refused(
                f"--from {self.first} --until {self.last}: {self.last} comes before {self.first}; the steps are {_names(steps)}"
            )
        return range(first, last + 1)

    def _positions_of(self, name: str, steps: Sequence[NamedStep]) -> list[int]:
        found = [position for position, step in enumerate(steps) if step.belongs_to == name]
        found = found or [position for position, step in enumerate(steps) if step.name == name]
        if found:
            return found
        close = nearest(name, {step.name for step in steps})
        hint = f" Did you mean {close[0]}?" if close else ""
        raise Refused(f"no step {name!r}.{hint} The steps are {_names(steps)}")


WHOLE = StepRange()


def _names(steps: Sequence[NamedStep]) -> str:
    return ", ".join(step.name for step in steps)
