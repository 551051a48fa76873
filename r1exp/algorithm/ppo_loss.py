"""Computes the token rewards of PPO and the loss of its critic.

    r_t     = -beta (log pi_old(t) - log pi_ref(t)) + [t is the last token] score
    L_value = 1/2 max((V - R)^2, (clip(V, V_old - eps, V_old + eps) - R)^2)

The penalty is the per-token log ratio. Its sum over a completion sampled from pi_old is an unbiased estimate
of the KL divergence. The policy's own loss, the clipped surrogate, is TRL's (`_compute_loss`).

Source: per-token penalty: arXiv:1909.08593, section 2; score at the last token: InstructGPT, eq. 2
(arXiv:2203.02155); clipped value loss: arXiv:2006.05990, choice C13; PPO: arXiv:1707.06347.

Shapes: B completions of this rank, T tokens of the longest one. A mask is 1 on tokens that the policy sampled.
"""

import torch
from torch import Tensor

from r1exp.algorithm.gae import Reduce, moments, single_rank


def token_rewards(scores_b: Tensor, log_ratio_bt: Tensor, mask_bt: Tensor, beta: float) -> Tensor:
    """Return the reward of each token, (B, T): the KL penalty everywhere, the score at the last token.

    A completion whose tokens are all masked has reward 0.

    Args:
        scores_b: Total reward of the completion from the committee.
        log_ratio_bt: log pi_old - log pi_ref of the sampled token.
        mask_bt: 1 on tokens that count.
        beta: Weight of the penalty.
    """
    mask_bt = mask_bt.to(log_ratio_bt.dtype)
    # Not a product with 0, which would make NaN of an infinite log ratio.
    rewards_bt = torch.zeros_like(log_ratio_bt) if beta == 0.0 else -beta * log_ratio_bt * mask_bt
    places_t = torch.arange(1, mask_bt.size(1) + 1, device=mask_bt.device, dtype=mask_bt.dtype)
    last_b1 = (mask_bt * places_t).argmax(dim=1, keepdim=True)
    score_b1 = (scores_b.to(rewards_bt.dtype) * (mask_bt.sum(dim=1) > 0)).unsqueeze(1)
    return rewards_bt.scatter_add(1, last_b1, score_b1)


def value_losses(
    values_bt: Tensor, old_values_bt: Tensor, returns_bt: Tensor, clip: float | None
) -> tuple[Tensor, Tensor]:
    """Return the loss of each token's value, and 1.0 where the clipped error is larger, both (B, T).

    Args:
        values_bt: Values of the current critic.
        old_values_bt: Values of the critic that sampled with the policy, before training on the batch.
        returns_bt: The targets.
        clip: Maximum change of a value from its old one; None: no clipping.
    """
    plain_bt = (values_bt - returns_bt) ** 2
    if clip is None:
        return 0.5 * plain_bt, torch.zeros_like(plain_bt)
    near_bt = torch.clamp(values_bt, old_values_bt - clip, old_values_bt + clip)
    clipped_bt = (near_bt - returns_bt) ** 2
    return 0.5 * torch.maximum(plain_bt, clipped_bt), (clipped_bt > plain_bt).to(plain_bt.dtype)


def explained_variance(
    values_bt: Tensor, returns_bt: Tensor, mask_bt: Tensor, reduce: Reduce = single_rank
) -> float | None:
    """Return 1 - Var(R - V) / Var(R) over all ranks; 1: perfect, 0: no better than a constant.

    Returns None if the returns have no variance beyond rounding.
    """
    _, unexplained = moments(returns_bt - values_bt, mask_bt, reduce, returns_bt)
    _, whole = moments(returns_bt, mask_bt, reduce)
    return None if whole.item() == 0.0 else 1.0 - (unexplained / whole).item()
