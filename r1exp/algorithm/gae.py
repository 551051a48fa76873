"""Computes generalized advantage estimates (GAE) for completions of different lengths.

    delta_t = r_t + gamma V_{t+1} - V_t
    A_t     = delta_t + gamma lambda A_{t+1}
    R_t     = A_t + V_t

The value after the last token is 0, also for a completion truncated at the length limit.

Source: GAE, eq. 16 (arXiv:1506.02438); whitening: arXiv:2006.05990, choice C67.

Shapes: B completions of this rank, T tokens of the longest one. A mask is 1 on tokens that the policy sampled.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# Units in the last place: what sums of some hundred numbers may be off by. In float32 7.6e-6 of the numbers' size.
ROUNDING = 64.0
Reduce = Callable[[Tensor], Tensor]  # sums a tensor over all ranks, with the same result on each


def single_rank(values: Tensor) -> Tensor:
    """Return `values`: the sum over one rank."""
    return values


def gae(
    rewards_bt: Tensor, values_bt: Tensor, mask_bt: Tensor, gamma: float, lam: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Return advantages and returns, both (B, T) and 0 where the mask is 0.

    Masked tokens inside a completion (for example a tool's output) are skipped: the next unmasked token
    counts as the successor of the last one.

    Args:
        rewards_bt: Reward of each token.
        values_bt: The critic's estimate before each token is sampled.
        mask_bt: 1 on tokens that count.
        gamma: Discount per token.
        lam: GAE's lambda, one number or one for each completion, (B,). 1: sum of the observed rewards; 0: one-step
            bootstrap from the critic.
    """
    advantages_bt = torch.zeros_like(values_bt)
    next_value_b = torch.zeros_like(values_bt[:, 0])
    next_advantage_b = torch.zeros_like(next_value_b)
    for t in range(values_bt.size(1) - 1, -1, -1):
        counts_b = mask_bt[:, t].bool()
        delta_b = rewards_bt[:, t] + gamma * next_value_b - values_bt[:, t]
        advantage_b = delta_b + gamma * lam * next_advantage_b
        advantages_bt[:, t] = torch.where(counts_b, advantage_b, 0.0)
        next_advantage_b = torch.where(counts_b, advantage_b, next_advantage_b)
        next_value_b = torch.where(counts_b, values_bt[:, t], next_value_b)
    returns_bt = torch.where(mask_bt.bool(), advantages_bt + values_bt, 0.0)
    return advantages_bt, returns_bt


def length_adaptive_lambda(mask_bt: Tensor, alpha: float) -> Tensor:
    """Return lambda = 1 - 1 / (alpha l) for each completion of l tokens, (B,); 0 where alpha l is below 1.

    The weights of the temporal differences then sum to about alpha l: the longer a completion, the further the reward
    at its end reaches. Source: VAPO, length-adaptive GAE (arXiv:2504.05118).
    """
    lengths_b = mask_bt.sum(dim=1).to(torch.float32)
    return (1.0 - 1.0 / (alpha * lengths_b).clamp(min=1.0)).clamp(min=0.0)


def moments(
    values_bt: Tensor, mask_bt: Tensor, reduce: Reduce, parts_bt: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean and the variance (divided by n) of the masked values of all ranks, in float64.

    Uses two passes for numerical accuracy: the mean is subtracted before squaring. The variance is 0 if the standard
    deviation is below `ROUNDING` units in the last place of the values' own size: equal numbers that were rounded
    differently have no variance.

    Args:
        values_bt: The numbers.
        mask_bt: 1 on numbers that count.
        reduce: Sums over ranks.
        parts_bt: Numbers of which `values_bt` are differences: their size decides what rounding leaves. None: the
            values themselves.
    """
    mask_bt, wide_bt = mask_bt.double(), values_bt.double()
    sized_bt = wide_bt if parts_bt is None else parts_bt.double()
    sums = reduce(torch.stack([(wide_bt * mask_bt).sum(), mask_bt.sum(), (sized_bt**2 * mask_bt).sum()]))
    count = sums[1].clamp(min=1.0)
    mean = sums[0] / count
    variance = reduce((((wide_bt - mean) ** 2) * mask_bt).sum()) / count
    smallest = (ROUNDING * torch.finfo(values_bt.dtype).eps) ** 2 * sums[2] / count
    return mean, torch.where(variance > smallest, variance, 0.0)


def whiten(
    values_bt: Tensor,
    mask_bt: Tensor,
    reduce: Reduce = single_rank,
    epsilon: float = 1e-8,
    parts_bt: Tensor | None = None,
) -> Tensor:
    """Return (x - mean) / (std + epsilon) over the masked values of all ranks; 0 where the mask is 0.

    Values that differ by rounding only (see `moments`) become exactly 0.
    """
    mean, variance = moments(values_bt, mask_bt, reduce, parts_bt)
    if variance.item() == 0.0:
        return torch.zeros_like(values_bt)
    whitened_bt = (values_bt.double() - mean) / (variance.sqrt() + epsilon) * mask_bt.double()
    return whitened_bt.to(values_bt.dtype)
