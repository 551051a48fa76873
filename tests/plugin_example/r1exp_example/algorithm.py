"""GRPO with advantages from ranks: the share of the group that a completion beats, minus the share that beats it.

    A_i = (#{j: r_j < r_i} - #{j: r_j > r_i}) / (G - 1)        G completions per prompt, rewards r

Advantages lie in [-1, 1], add up to 0 in every group, and do not depend on the scale of the rewards.
"""

from typing import TYPE_CHECKING

from r1exp.algorithm.grpo import Grpo

if TYPE_CHECKING:  # the parent process never imports torch
    from torch import Tensor


class RankGrpo(Grpo):
    """GRPO with rank-based advantages."""

    def advantages(self, rewards: "Tensor", num_generations: int) -> "Tensor":
        """Return the advantages, (N,), of the rewards, (N,); the completions of one prompt are neighbors."""
        groups = rewards.view(-1, num_generations)
        higher = groups.unsqueeze(2) > groups.unsqueeze(1)  # (prompts, G, G): i beats j
        beats, beaten = higher.sum(2), higher.sum(1)
        return ((beats - beaten) / (num_generations - 1)).flatten()
