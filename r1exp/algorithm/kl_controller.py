"""How much should drifting from the reference cost? Held fixed, or steered so that the KL meets a target.

    e_t      = clip(KL_t / target - 1, -limit, limit)
    beta_t+1 = beta_t (1 + rate e_t)

Source: arXiv:1909.08593, section 2.2, eq. 3 (rate 0.1, limit 0.2).

KL is the trainer's metric `kl`: nats per token, the mean over an optimiser step. Torch-free.
"""

import math
from typing import Any, Literal

from pydantic import PositiveFloat

from r1exp.settings import Settings


class FixedKl(Settings):
    """`beta` stays what was typed."""

    kind: Literal["fixed"]


class AdaptiveKl(Settings):
    """`beta` starts at what was typed and is steered toward a target."""

    kind: Literal["adaptive"]
    target: PositiveFloat  # nats per token
    rate: PositiveFloat  # relative change of beta per optimiser step and unit of error
    limit: PositiveFloat  # the largest error that counts


class KlController:
    """The current `beta`, and how it follows what was measured.

    Args:
        settings: Fixed or adaptive.
        beta: Where it starts.

    Raises:
        ValueError: adaptive from 0, which no factor ever moves.
    """

    def __init__(self, settings: FixedKl | AdaptiveKl, beta: float) -> None:
        if isinstance(settings, AdaptiveKl) and beta == 0.0:
            raise ValueError(
                "algorithm.kl.kind=adaptive multiplies beta, and beta=0 stays 0; start from beta=0.01, say, "
                "or use algorithm.kl.kind=fixed"
            )
        self.settings = settings
        self.beta = beta

    def observe(self, kl: float) -> None:
        """Take the mean KL of one optimiser step into account; one that is not finite moves nothing."""
        if isinstance(self.settings, FixedKl) or not math.isfinite(kl):
            return
        limit = self.settings.limit
        error = min(max(kl / self.settings.target - 1.0, -limit), limit)
        self.beta *= 1.0 + self.settings.rate * error

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must keep; JSON gives a float back bit for bit."""
        return {"beta": self.beta}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.beta = float(state["beta"])
