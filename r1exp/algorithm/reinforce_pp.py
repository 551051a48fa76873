"""Settings of REINFORCE++ and of its variant with a baseline.

    reinforce_pp           A_t = whiten_over_batch(r - beta * sum of log(pi_old / pi_ref) from t on)
    reinforce_pp_baseline  A   = whiten_over_batch(r - mean of r over the completions of the prompt)

Source: arXiv:2501.03262.
"""

from typing import TYPE_CHECKING, Any, Literal

from r1exp.algorithm.base import TRACKED_ZERO, OnlineAlgorithm
from r1exp.algorithm.grpo import Grpo

if TYPE_CHECKING:  # planning imports no torch
    from torch import Tensor


class ReinforcePp(OnlineAlgorithm):
    """REINFORCE++: returns normalized over the batch, PPO's clipped loss, and no critic."""

    kind: Literal["reinforce_pp"]

    least_generations = 1
    # Advantages are the trainer's own, and the KL penalty is part of the reward.
    outside_key = frozenset({"scale_rewards", "multi_objective_aggregation", "use_bias_correction_kl"})

    @property
    def corrects_staleness(self) -> bool:
        """Whether it can train on completions of older weights."""
        return True

    @property
    def trainer(self) -> str:
        """Import path of the trainer."""
        return "r1exp.algorithm.ppo_trainer:ReinforcePp"

    def trainer_arguments(self, beta: float) -> dict[str, Any]:
        """Return a `beta` that only makes TRL keep the reference: the KL penalty is part of the reward."""
        return {"beta": TRACKED_ZERO if beta or self.track_kl else 0.0}


class ReinforcePpBaseline(Grpo):
    """REINFORCE++-baseline: a group's mean as the baseline, and a standard deviation over the batch."""

    # TRL's advantages are replaced.
    outside_key = frozenset({"scale_rewards", "multi_objective_aggregation"})

    def advantages(self, rewards: "Tensor", num_generations: int) -> "Tensor":
        """Return the advantages of all ranks' completions, (N,), from their weighted rewards, (N,)."""
        from r1exp.algorithm.advantages import centered_then_whitened

        return centered_then_whitened(rewards, num_generations)
