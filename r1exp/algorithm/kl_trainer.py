"""How does a trainer of TRL follow the KL controller? Its `beta` is set anew after every update.

For TRL 1.16 "the reference is not needed" is `beta == 0.0`. The smallest float64 is not 0.0 for Python,
and rounds to 0.0 as soon as it meets a float32, bfloat16 or float16 tensor: with it the reference is
kept, `kl` is logged, and the loss and its gradient are those of beta=0.
"""

import math
from typing import Any

from torch import Tensor
from transformers import Trainer

from r1exp.algorithm.base import TRACKED_ZERO
from r1exp.algorithm.kl_controller import KlController


class KlControl(Trainer):
    """GRPO or RLOO of TRL 1.16 with a `beta` that a controller holds or moves.

    Args:
        kl: Started at the `beta` that was typed.
    """

    beta: float  # TRL's

    def __init__(self, *args: Any, kl: KlController, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kl = kl
        self._kl_window: list[float] = []  # of the micro-batches since the last update

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
        # TRL reduces `kl` over ranks, so that every rank's controller sees the same number.
        self._kl_window.clear()
        self.kl.observe(kl)
        if self.beta not in (0.0, TRACKED_ZERO):
            self.beta = self.kl.beta

    def resume_state(self) -> dict[str, Any]:
        return {**super().resume_state(), "kl": self.kl.state()}

    def restore_state(self, state: dict[str, Any]) -> None:
        super().restore_state(state)
        self.kl.restore(state["kl"])
        if self.beta not in (0.0, TRACKED_ZERO):
            self.beta = self.kl.beta
