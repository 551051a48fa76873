"""Lets an algorithm replace the advantages of TRL's GRPOTrainer, and computes weighted totals for the trainers.

Shapes: N completions of all ranks, B completions of this rank, F reward functions.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from r1exp.rewards.total import weighted_totals_of_rows

Advantages = Callable[[Tensor, int], Tensor]


class OwnAdvantages(Trainer):
    """Replaces the advantages `(B,)` of TRL 1.16's GRPOTrainer if the algorithm defines its own.

    Args:
        advantages: Called with the weighted rewards, (N,), NaN where no reward could score, and the number of
            completions per prompt; returns the advantages, (N,). None: those of TRL.
    """

    def __init__(self, *args: Any, advantages: Advantages | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._own_advantages = advantages
        self._rewards_nf: Tensor  # of the last generation batch, all ranks

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        # TRL does not return the rewards; they are kept for `totals`.
        self._rewards_nf = super()._calculate_rewards(*args, **kwargs)
        return self._rewards_nf

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
