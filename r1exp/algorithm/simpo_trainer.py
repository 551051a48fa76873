"""SimPO on TRL's DPOTrainer: its length-normalized logistic loss, with a margin in place of a reference.

    DPO's sigmoid_norm:  -log sigmoid(beta ((log pi(y_w) - r_w) / |y_w| - (log pi(y_l) - r_l) / |y_l|))
    r_w = |y_w| margin / beta,  r_l = 0:  eq. 6 of SimPO

Here r are the log-probabilities of the reference, which TRL 1.16 reads from the batch where they are precomputed. So no
reference is loaded. Its own SimPO is an experimental module (trl.experimental.cpo), of which r1exp imports nothing.

Source: SimPO, eq. 6 (arXiv:2405.14734). Shapes: P pairs of this rank; a batch has their chosen answers first.
"""

from typing import Any

import torch
from torch import Tensor
from trl import DPOConfig

from r1exp.algorithm.trainers import Dpo, Policy


class Simpo(Dpo):
    """Simple preference optimization.

    Args:
        margin: Gamma, which the difference of the rewards should exceed.
    """

    @classmethod
    def config(cls, **arguments: Any) -> DPOConfig:
        """Return the arguments of a trainer that has the reference's log-probabilities already."""
        return DPOConfig(**{**arguments, "precompute_ref_log_probs": True})

    @classmethod
    def own_arguments(cls, algorithm: Any, policy: Policy) -> dict[str, Any]:
        """Return the margin."""
        del policy
        return {"margin": algorithm.margin}

    def __init__(self, *args: Any, margin: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._margin = margin

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        # There is no reference.
        return dataset

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        # Puts the margin where the loss expects the reference, and corrects the rewards that TRL logs.
        lengths = inputs["completion_mask"].sum(dim=1).clamp(min=1)
        chosen_p = lengths.chunk(2)[0] * (self._margin / self.beta)
        seen: list[Tensor] = []

        def observed(**given: Any) -> Any:
            output = model(**given)
            seen.append(output.log_probs.detach().sum(dim=1))
            return output

        given = {**inputs, "ref_chosen_logps": chosen_p, "ref_rejected_logps": torch.zeros_like(chosen_p)}
        result = super()._compute_loss(observed, given, return_outputs)
        self._log_rewards((self.beta * seen[0] / lengths).chunk(2))
        return result

    def _log_rewards(self, rewards: tuple[Tensor, ...]) -> None:
        """Replace the logged rewards of chosen and rejected answers, (P,) each: beta times nats per token."""
        chosen_p, rejected_p = (self.accelerator.gather(part.contiguous()) for part in rewards)
        found = {
            "chosen": chosen_p,
            "rejected": rejected_p,
            "accuracies": (chosen_p > rejected_p).float(),
            "margins": chosen_p - rejected_p,
        }
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, numbers in found.items():
            metrics[f"rewards/{name}"][-1] = numbers.mean().item()
