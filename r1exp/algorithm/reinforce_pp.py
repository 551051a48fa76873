"""Settings of REINFORCE++ and of its variant with a baseline.

    reinforce_pp           A_t = whiten_over_batch(r - beta * sum of log(pi_old / pi_ref) from t on)
    reinforce_pp_baseline  A   = whiten_over_batch(r - mean of r over the completions of the prompt)

Source: arXiv:2501.03262.
"""

from typing import TYPE_CHECKING, Literal

from r1exp.algorithm.base import TokenReturns
from r1exp.algorithm.grpo import Grpo

if TYPE_CHECKING:  # planning imports no torch
    from torch import Tensor


class ReinforcePp(TokenReturns):
    """REINFORCE++: returns normalized over the batch, PPO's clipped loss, and no critic."""

    kind: Literal["reinforce_pp"]

    @property
    def trainer(self) -> str:
        """Import path of the trainer."""
        return "r1exp.algorithm.ppo_trainer:ReinforcePp"


class ReinforcePpBaseline(Grpo):
    """REINFORCE++-baseline: a group's mean as the baseline, and a standard deviation over the batch."""

    # TRL's advantages are replaced.
    outside_key = frozenset({"scale_rewards", "multi_objective_aggregation"})

    def advantages(self, rewards: "Tensor", num_generations: int) -> "Tensor":
        """Return the advantages of all ranks' completions, (N,), from their weighted rewards, (N,)."""
        from r1exp.algorithm.advantages import centered_then_whitened

        return centered_then_whitened(rewards, num_generations)
