"""How much should drifting from the reference cost? Held fixed, or steered so that the KL meets a target.

    e_t      = clip(KL_t / target - 1, -limit, limit)
    beta_t+1 = beta_t (1 + rate e_t)

Source: arXiv:1909.08593, section 2.2, eq. 3 (rate 0.1, limit 0.2).

KL is the trainer's metric `kl`: nats per token, the mean over an optimizer step. Torch-free.
"""

import math
from typing import Any

from pydantic import PositiveFloat

from r1exp.settings import Settings


class KlSettings(Settings):
    """What becomes of `beta` after each optimizer step."""

    target: PositiveFloat | None  # nats per token that beta is steered toward; null: beta stays as typed
    rate: PositiveFloat  # relative change of beta per optimizer step and unit of error
    limit: PositiveFloat  # the largest error that counts


class KlController:
    """The current `beta`, and how it follows what was measured.

    Args:
        settings: With or without a target.
        beta: Where it starts; with a target above 0, or no factor would ever move it.
    """

    def __init__(self, settings: KlSettings, beta: float) -> None:
        self.settings = settings
        self.beta = beta

    def observe(self, kl: float) -> None:
        """Take the mean KL of one optimizer step into account; one that is not finite moves nothing."""
        target, limit = self.settings.target, self.settings.limit
        if target is None or not math.isfinite(kl):
            return
        error = min(max(kl / target - 1.0, -limit), limit)
        self.beta *= 1.0 + self.settings.rate * error

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep; JSON gives a float back bit for bit."""
        return {"beta": self.beta}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.beta = float(state["beta"])
