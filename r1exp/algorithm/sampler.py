"""Reads vLLM's log-probabilities of sampled tokens, and logs how far they differ from the trainer's.

    gap = mean |log pi_trainer(token) - log pi_sampler(token)|

The gap is small if the sampler has the trainer's weights (0.001 nats with equal compute dtypes), and grows
with every optimizer step if it does not. A rule of `health` uses it to detect weights that do not arrive.

TRL's GRPO logs the gap as `sampling/sampling_logp_difference/mean` if importance sampling correction is on.
GRPO without the correction, and RLOO, discard the sampler's log-probabilities; this class logs the gap there.

Shapes: B completions of this rank, T tokens of the longest one, S tokens with the prompt.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer

from r1exp.rewards.adapter import LOGPROBS_COLUMN

GAP = "sampling/sampling_logp_difference/mean"


class SamplerLogprobs(Trainer):
    """GRPO or RLOO of TRL 1.16 that keeps vLLM's log-probabilities for rewards and always logs the gap."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sampled_logps: list[list[float]] | None = None  # of the last completions
        if self.use_vllm:
            self._record_logprobs()

    def _record_logprobs(self) -> None:
        self.vllm_generation.logprobs = 0  # of the sampled token only; RLOO requests none
        theirs = self.vllm_generation.generate

        def generate(*args: Any, **kwargs: Any) -> Any:
            answer = theirs(*args, **kwargs)
            self._sampled_logps = _of_sampled_tokens(answer[2])
            return answer

        self.vllm_generation.generate = generate

    def _calculate_rewards(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # Rewards read columns, so vLLM's log-probabilities are added as a column.
        if self._sampled_logps is not None:
            inputs = [
                row | {LOGPROBS_COLUMN: None if any(map(math.isnan, logps)) else logps}
                for row, logps in zip(inputs, self._sampled_logps, strict=True)
            ]
        return super()._calculate_rewards(inputs, *args, **kwargs)

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self._sampled_logps is not None and self._can_compare():
            mode = "train" if self.model.training else "eval"
            self._metrics[mode][GAP].append(self._gap(batch, self._sampled_logps))
        return batch

    def _can_compare(self) -> bool:
        """Return whether TRL does not log the gap, and both distributions are over the whole vocabulary."""
        is_corrected = getattr(self, "vllm_importance_sampling_correction", False)
        return not is_corrected and self.args.top_p == 1.0 and not self.args.top_k

    def _gap(self, batch: dict[str, Any], sampled_logps: list[list[float]]) -> float:
        """Return the gap in nats per token, over all ranks."""
        ours_bt = self.policy_logps(batch)
        theirs_bt = pad_sequence([torch.tensor(logps) for logps in sampled_logps], batch_first=True)
        theirs_bt = theirs_bt[:, : ours_bt.size(1)].to(ours_bt)
        gaps_bt = (ours_bt - theirs_bt).abs()
        gaps = gaps_bt[batch["completion_mask"].bool() & gaps_bt.isfinite()]
        totals = torch.stack([gaps.sum(), torch.tensor(float(gaps.numel())).to(gaps)])
        total, count = self.accelerator.reduce(totals, reduction="sum").tolist()
        return total / max(count, 1.0)

    def policy_logps(self, batch: dict[str, Any]) -> Tensor:
        """Return the policy's log-probabilities of a newly sampled batch, (B, T)."""
        ids_bs = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask_bs = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        with torch.no_grad():
            logps_bt, _, _ = self._get_per_token_logps_and_entropies(
                self.model,
                ids_bs,
                mask_bs,
                batch["completion_ids"].size(1),
                self.args.per_device_train_batch_size,
            )
        return logps_bt


def _of_sampled_tokens(logprobs: list[list[list[float | None]]] | None) -> list[list[float]] | None:
    """Return the first log-probability per position, that of the sampled token; NaN if vLLM has none."""
    if logprobs is None:
        return None
    return [[math.nan if token[0] is None else token[0] for token in row] for row in logprobs]
