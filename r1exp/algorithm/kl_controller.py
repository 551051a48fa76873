"""Controls `beta`, the weight of the KL penalty: constant, or adapted so that the KL approaches a target.

    e_t      = clip(KL_t / target - 1, -limit, limit)
    beta_t+1 = beta_t (1 + rate e_t)

Source: arXiv:1909.08593, section 2.2, eq. 3 (rate 0.1, limit 0.2).

KL is the logged metric `kl` of every algorithm (k3, r1exp/algorithm/kl_metric.py), in nats per token, averaged over an optimizer
step. Torch-free.
"""

import math
from typing import Any

from pydantic import PositiveFloat

from r1exp.settings import Settings


class KlSettings(Settings):
    """How `beta` changes after each optimizer step."""

    target: PositiveFloat | None  # KL that beta is adapted toward, nats per token; null: beta is constant
    rate: PositiveFloat  # relative change of beta per optimizer step and unit of error
    limit: PositiveFloat  # the error is clipped to [-limit, limit]


class KlController:
    """Holds the current `beta` and updates it from the measured KL.

    Args:
        settings: Target, rate and limit.
        beta: The initial value. With a target it must be above 0, because the updates are factors.
    """

    def __init__(self, settings: KlSettings, beta: float) -> None:
        self.settings = settings
        self.beta = beta

    def observe(self, kl: float) -> None:
        """Update `beta` from the mean KL of one optimizer step; a KL that is not finite is ignored."""
        target, limit = self.settings.target, self.settings.limit
        if target is None or not math.isfinite(kl):
            return
        error = min(max(kl / target - 1.0, -limit), limit)
        self.beta *= 1.0 + self.settings.rate * error

    def adapt_to(self, target: float) -> bool:
        """Adapt `beta` from now on; return whether that is new: a controller that has a target keeps its own.

        Args:
            target: KL that beta is adapted toward, nats per token.
        """
        if self.settings.target is not None or self.beta == 0.0:
            return False
        self.settings = self.settings.model_copy(update={"target": target})
        return True

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint; JSON restores a float bit for bit."""
        return {"beta": self.beta, "target": self.settings.target}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.beta = float(state["beta"])
        self.settings = self.settings.model_copy(update={"target": state["target"]})
