"""Finds since which optimizer step a training is in trouble, so that a good checkpoint can be named. Torch-free.

A value is out of range if it is not finite, or larger than 10 times the largest of

    0.1,  its first value,  its median over the last 100 optimizer steps in range

The values are the norm of the gradient before clipping and, of trainers that learn from given answers, the loss. Trouble begins with
the first optimizer step out of range, and is over after 5 optimizer steps in range. A single bad batch is over soon; what ends in
NaN is not. A value that was finite and out of range for 100 optimizer steps in a row has a new range: it is learned anew.

The loss of an optimizer step is that of the weights before it. So a checkpoint after n optimizer steps is good if step n + 1 was
in range: trouble that begins at step s leaves the checkpoints after at most s - 2 optimizer steps.
"""

import math
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

_FACTOR = 10.0  # times the usual value
_FLOOR = 0.1  # usual values below it count as this; the first gradients may be 0
_NUM_STEADY = 5  # optimizer steps in range after which trouble is over
_WINDOW = 100  # optimizer steps


class _Range:
    """The range of one value."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.recent: deque[float] = deque(maxlen=_WINDOW)  # values in range
        self.num_outside = 0  # optimizer steps since the last value in range

    def has(self, value: float) -> bool:
        """Return whether the value is in range, and count it."""
        if not math.isfinite(value):
            return False
        if self.first is None:
            self.first = abs(value)
        usual = max(_FLOOR, self.first, median(self.recent or [0.0]))
        is_inside = abs(value) <= _FACTOR * usual
        self.num_outside = 0 if is_inside else self.num_outside + 1
        if self.num_outside >= _WINDOW:
            self.first = None
            self.recent.clear()
        if is_inside:
            self.recent.append(abs(value))
        return is_inside


class Steadiness:
    """Observes one training."""

    def __init__(self) -> None:
        self._ranges: dict[str, _Range] = {}
        self._num_steady = 0  # optimizer steps in range since the last one out of range
        self.since: int | None = None  # optimizer step with which the present trouble began; None: none

    def observe(self, step: int, values: Mapping[str, float]) -> None:
        """Count an optimizer step: name -> value."""
        inside = [self._ranges.setdefault(name, _Range()).has(value) for name, value in values.items()]
        if not all(inside):
            self._num_steady = 0
            self.since = step if self.since is None else self.since
            return
        self._num_steady += 1
        if self._num_steady >= _NUM_STEADY:
            self.since = None

    @property
    def last_good(self) -> int | None:
        """The number of optimizer steps after which a checkpoint may be good at most; None: any number."""
        return None if self.since is None else self.since - 2

    def state(self) -> dict[str, Any]:
        """Return the state of a checkpoint, as JSON values."""
        ranges = {
            name: [each.first, list(each.recent), each.num_outside] for name, each in self._ranges.items()
        }
        return {"ranges": ranges, "num_steady": self._num_steady, "since": self.since}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._num_steady, self.since = state["num_steady"], state["since"]
        for name, (first, recent, num_outside) in state["ranges"].items():
            each = self._ranges.setdefault(name, _Range())
            each.first, each.num_outside = first, num_outside
            each.recent = deque(recent, maxlen=_WINDOW)
