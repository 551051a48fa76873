"""Connects a TRL trainer with the KL controller: `beta` is updated after every optimizer step.

TRL 1.16 loads no reference if `beta == 0.0`. The smallest float64 is not equal to 0.0 in Python, so that with it as `beta`
TRL keeps the reference and logs `kl`. Its product with a KL is 0, also where the KL is infinite, so that the loss and its
gradient are those of beta=0.
"""

import math
from typing import Any

import torch
from torch import Tensor

from r1exp.algorithm import kl_metric
from r1exp.algorithm.base import TRACKED_ZERO
from r1exp.algorithm.kl_controller import KlController


class NoPenalty(float):
    """A number above 0 whose product with a tensor is 0, where a plain number would make NaN of an infinite KL."""

    def __mul__(self, other: Any) -> Any:
        return torch.zeros_like(other) if isinstance(other, Tensor) else super().__mul__(other)


class KlControl(kl_metric.KlMetric):
    """GRPO or RLOO of TRL 1.16 with a `beta` that a controller sets.

    Args:
        kl: The controller, which holds the initial `beta`.
    """

    beta: float  # attribute of TRL's trainers

    def __init__(self, *args: Any, kl: KlController, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kl = kl
        if self.beta == TRACKED_ZERO:
            self.beta = NoPenalty(TRACKED_ZERO)
        self._kl_window: list[float] = []  # KL of the micro-batches since the last optimizer step

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        num_known = len(self._metrics["train"].get("kl", []))
        loss = super().training_step(*args, **kwargs)
        self._kl_window += self._metrics["train"].get("kl", [])[num_known:]
        if self.accelerator.sync_gradients:
            self._metrics["train"]["beta"].append(self.kl.beta)
            if self._kl_window:
                self._steer(math.fsum(self._kl_window) / len(self._kl_window))
        return loss

    def _steer(self, kl: float) -> None:
        # TRL reduces `kl` over ranks, so the controllers of all ranks receive the same number.
        self._kl_window.clear()
        self.kl.observe(kl)
        if self.beta not in (0.0, TRACKED_ZERO):
            self.beta = self.kl.beta

    def adapt_kl(self, target: float) -> str:
        """Let the controller move beta towards a KL of `target`, and return what was done, for the user."""
        if self.kl.adapt_to(target):
            return f"beta is adapted from {self.kl.beta:.3g} on, to a kl of {target:.3g}"
        return "beta is 0 and stays 0" if self.kl.beta == 0.0 else "beta is adapted already"

    def resume_state(self) -> dict[str, Any]:
        return {**super().resume_state(), "kl": self.kl.state()}

    def restore_state(self, state: dict[str, Any]) -> None:
        super().restore_state(state)
        self.kl.restore(state["kl"])
        if self.beta not in (0.0, TRACKED_ZERO):
            self.beta = self.kl.beta
