"""Logs the KL from the reference under one definition for every algorithm: `kl`, in nats per token.

    kl                = mean of exp(-d) + d - 1       d = log pi - log pi_ref of a sampled token     (k3)
    kl_ratio_weighted = mean of rho (exp(-d) + d - 1)   rho = pi / pi_old, of what `importance_sampling_level` says
    kl_log_ratio      = mean of d                                                                     (k1)

The mean is over the completion tokens of all ranks. pi is the policy that computes the loss, and in RLOO the one that sampled.
TRL 1.16 logs under `kl` what its loss adds: k3 in GRPO, k3 weighted by the ratio with `use_bias_correction_kl`, and k1 in RLOO, which
differ by orders of magnitude once a sampled token has become improbable: there rho is almost 0 and exp(-d) large. What TRL logs is
logged under the name of its formula in addition, where it is another one. Nothing but the log changes.

Source: k1 and k3: J. Schulman (2020), Approximating KL Divergence; eq. 4 of arXiv:2402.03300. Weighted: arXiv:2512.02556, section 3.1.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import Trainer


class KlMetric(Trainer):
    """GRPO or RLOO of TRL 1.16 that logs k3 as `kl`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._passes: list[Tensor] | None = None  # log-probabilities of the forward passes that are observed

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if self._passes is not None:
            self._passes.append(result[0].detach())
        return result

    def _compute_loss(self, model: Any, inputs: Any) -> Tensor:
        # GRPO logs its KL here; RLOO logs none.
        if not getattr(self.args, "use_bias_correction_kl", False):
            return super()._compute_loss(model, inputs)
        num_known = len(self._logged_kl())
        self._passes = []
        try:
            loss: Tensor = super()._compute_loss(model, inputs)
        finally:
            passes, self._passes = self._passes, None
        if len(self._logged_kl()) > num_known:
            mask_bt = inputs["completion_mask"] * inputs.get("tool_mask", 1)
            self._log_k3("kl_ratio_weighted", passes[0], inputs["ref_per_token_logps"], mask_bt)
        return loss

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        # RLOO logs its KL here, after a forward pass of the policy and one of the reference; GRPO logs none.
        num_known = len(self._logged_kl())
        self._passes = []
        try:
            batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        finally:
            passes, self._passes = self._passes, None
        if len(self._logged_kl()) > num_known:
            self._log_k3("kl_log_ratio", passes[0], passes[1], batch["completion_mask"])
        return batch

    def _logged_kl(self) -> list[float]:
        metrics: dict[str, list[float]] = self._metrics["train" if self.model.training else "eval"]
        return metrics.get("kl", [])

    def _log_k3(self, name: str, logps_bt: Tensor, ref_logps_bt: Tensor, mask_bt: Tensor) -> None:
        """Move the KL that TRL logged last to `name`, and log k3 in its place. A collective operation."""
        theirs = self._logged_kl().pop()
        self._metrics["train" if self.model.training else "eval"][name].append(theirs)
        gap_bt = (ref_logps_bt - logps_bt).masked_fill(mask_bt == 0, 0.0)
        sums = torch.stack([(gap_bt.exp() - gap_bt - 1.0).sum(), mask_bt.sum().to(gap_bt.dtype)])
        total, count = self.accelerator.reduce(sums, reduction="sum").tolist()
        self._logged_kl().append(total / max(count, 1.0))
