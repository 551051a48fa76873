"""Makes the advantages of equal rewards exactly 0, lets an algorithm replace them, and computes weighted totals.

Shapes: N completions of all ranks, B completions of this rank, F reward functions.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer
from trl.trainer.utils import nanstd

from r1exp.algorithm.base import TRACKED_ZERO
from r1exp.algorithm.gae import ROUNDING, whiten
from r1exp.rewards.total import weighted_totals_of_rows

Advantages = Callable[[Tensor, int], Tensor]


def flat_groups(rewards_nf: Tensor, weights_f: Tensor, group_size: int) -> Tensor:
    """Return for each completion whether the weighted rewards of its group are equal up to rounding, (N,).

    Completions whose rewards all abstained do not count.
    """
    parts_nf = rewards_nf * weights_f.to(rewards_nf)
    totals_n = parts_nf.nansum(dim=1)
    totals_n[parts_nf.isnan().all(dim=1)] = torch.nan
    return _are_equal(totals_n.view(-1, group_size), parts_nf.abs().nansum(dim=1).view(-1, group_size))


def _are_equal(numbers_gn: Tensor, sizes_gn: Tensor) -> Tensor:
    """Return for each number, flattened, whether the known ones of its row differ by rounding at most.

    Args:
        numbers_gn: Numbers of each group; NaN: not known.
        sizes_gn: Sizes of what the numbers were computed from.
    """
    unknown_gn = numbers_gn.isnan()
    highest_g = numbers_gn.masked_fill(unknown_gn, -torch.inf).amax(dim=1)
    lowest_g = numbers_gn.masked_fill(unknown_gn, torch.inf).amin(dim=1)
    allowed_g = ROUNDING * torch.finfo(numbers_gn.dtype).eps * sizes_gn.amax(dim=1)
    return (highest_g - lowest_g <= allowed_g).repeat_interleave(numbers_gn.size(1))


def normalized_then_summed(rewards_nf: Tensor, weights_f: Tensor, group_size: int) -> Tensor:
    """Return TRL 1.16's advantages of `multi_objective_aggregation=normalize_then_sum`, (N,), without noise.

    Each reward is normalized in its group, the weighted sum over the batch. A reward that is constant in a group counts
    as 0 there.
    """
    grouped = rewards_nf.view(-1, group_size, rewards_nf.size(1))
    normalized_nf = (grouped - torch.nanmean(grouped, dim=1, keepdim=True)) / (
        nanstd(grouped, dim=1, keepdim=True) + 1e-4
    )
    normalized_nf = normalized_nf.view_as(rewards_nf)
    for index, column_n in enumerate(rewards_nf.unbind(dim=1)):
        column_gn = column_n.view(-1, group_size)
        flat_n = _are_equal(column_gn, column_gn.abs().nan_to_num())
        normalized_nf[flat_n & ~column_n.isnan(), index] = 0.0
    totals_n = (normalized_nf * weights_f.to(normalized_nf)).nansum(dim=1)
    totals_n[rewards_nf.isnan().all(dim=1)] = torch.nan
    if bool(_are_equal(totals_n.view(1, -1), normalized_nf.abs().nansum(dim=1).view(1, -1)).all()):
        return torch.zeros_like(totals_n)
    return ((totals_n - torch.nanmean(totals_n)) / (nanstd(totals_n) + 1e-4)).nan_to_num(nan=0.0)


def centered_then_whitened(rewards_n: Tensor, group_size: int) -> Tensor:
    """Return the rewards minus their group's mean, divided by the standard deviation of that over the batch, (N,).

    The rewards of a group that differ by rounding only give exactly 0. A completion without a reward (NaN) has the advantage
    0 and does not count. Source: REINFORCE++-baseline (arXiv:2501.03262).
    """
    grouped = rewards_n.view(-1, group_size)
    centered_n = (grouped - torch.nanmean(grouped, dim=1, keepdim=True)).flatten()
    centered_n = torch.where(_are_equal(grouped, grouped.abs().nan_to_num()), 0.0, centered_n)
    is_known = rewards_n.isfinite()
    return whiten(centered_n.nan_to_num()[None], is_known[None].to(centered_n))[0]


class ExactlyFlat(Trainer):
    """GRPO or RLOO of TRL 1.16 with advantages of exactly 0 in a group whose rewards are all equal.

    TRL subtracts a mean that is rounded, so that eight rewards of 0.7 leave advantages above 0. Adam divides a gradient by
    its own size, and so such a batch moved the weights as far as any other one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rewards_nf: Tensor  # of the last generation batch, all ranks

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        # TRL does not return the rewards; they are kept for `totals`.
        self._rewards_nf = super()._calculate_rewards(*args, **kwargs)
        return self._rewards_nf

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if not self.model.training:
            return batch
        own = self.own_slice(len(batch["prompt_ids"]))
        advantages_b = batch["advantages"]
        if getattr(self, "multi_objective_aggregation", None) == "normalize_then_sum":
            exact_n = normalized_then_summed(self._rewards_nf, self.reward_weights, self.num_generations)
            exact_b = exact_n[own]
        elif self._penalizes_rewards():
            return batch  # completions of equal reward have different penalties
        else:
            flat_n = flat_groups(self._rewards_nf, self.reward_weights, self.num_generations)
            exact_b = torch.where(flat_n[own], torch.zeros_like(advantages_b), advantages_b)
        if self._differs_anywhere(exact_b, advantages_b):
            self._log_advantages(self.accelerator.gather(exact_b))
        batch["advantages"] = exact_b
        return batch

    def _penalizes_rewards(self) -> bool:
        """Return whether TRL subtracts the KL from the rewards."""
        return not hasattr(self, "scale_rewards") and self.beta not in (0.0, TRACKED_ZERO)

    def _differs_anywhere(self, ours_b: Tensor, theirs_b: Tensor) -> bool:
        number = (ours_b != theirs_b).sum()
        return bool(self.accelerator.reduce(number, reduction="sum").item())

    def totals(self) -> Tensor:
        """Return the weighted rewards of the last generation batch, (N,); NaN where no reward could score."""
        totals = weighted_totals_of_rows(self._rewards_nf.tolist(), self.reward_weights.tolist())
        return torch.tensor(totals, dtype=torch.float32, device=self._rewards_nf.device)

    def own_slice(self, num_rows: int) -> slice:
        """Return the slice of this rank's completions among those of all ranks."""
        start = self.accelerator.process_index * num_rows
        return slice(start, start + num_rows)

    def _log_advantages(self, advantages_n: Tensor) -> None:
        """Replace the advantages of the last batch of all ranks, (N,), in TRL's log of completions."""
        logged = self._logs["advantages"]
        for _ in range(min(len(advantages_n), len(logged))):
            logged.pop()
        logged.extend(advantages_n.tolist())


class OwnAdvantages(ExactlyFlat):
    """Replaces the advantages `(B,)` of TRL 1.16's GRPOTrainer if the algorithm defines its own.

    Args:
        advantages: Called with the weighted rewards, (N,), NaN where no reward could score, and the number of
            completions per prompt; returns the advantages, (N,). None: those of TRL.
    """

    def __init__(self, *args: Any, advantages: Advantages | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._own_advantages = advantages

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        # Replaces TRL's advantages if the algorithm defines its own.
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self._own_advantages is None or not self.model.training:
            return batch
        totals_n = self.totals()
        advantages_n = self._own_advantages(totals_n, self.num_generations)
        if not isinstance(advantages_n, Tensor) or advantages_n.shape != totals_n.shape:
            found = getattr(advantages_n, "shape", advantages_n)
            raise ValueError(
                f"the algorithm's advantages must have the shape of its rewards, {tuple(totals_n.shape)}, but have {found}"
            )
        advantages_n = advantages_n.to(totals_n).nan_to_num(nan=0.0)
        self._log_advantages(advantages_n)
        batch["advantages"] = advantages_n[self.own_slice(len(batch["prompt_ids"]))]
        return batch
