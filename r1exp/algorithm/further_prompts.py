"""A stream of further prompts, for trainers that replace some of a batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class FurtherPrompts:
    """A stream of further rows of a data set, in an order that depends on a seed and a position only."""

    def __init__(self, dataset: Sequence[dict[str, Any]], seed: int) -> None:
        self._dataset = dataset
        self._seed = seed
        self._pass = -1  # the pass whose order is kept
        self._order: Any = None  # indices of the rows in this pass
        self.num_taken = 0

    def take(self, number: int) -> list[dict[str, Any]]:
        """Return the next `number` rows; each pass over the data set has a new random order."""
        rows = []
        for position in range(self.num_taken, self.num_taken + number):
            number_of_pass, place = divmod(position, len(self._dataset))
            rows.append(self._dataset[int(self._order_of(number_of_pass)[place])])
        self.num_taken += number
        return rows

    def _order_of(self, number_of_pass: int) -> Any:
        """Return the order of a pass; a permutation of a million rows takes 0.1 s, so that the last one is kept."""
        if number_of_pass != self._pass:
            generator = np.random.default_rng([self._seed, number_of_pass])
            self._pass, self._order = number_of_pass, generator.permutation(len(self._dataset))
        return self._order
