"""Takes the log-probabilities of sampled tokens from the pass that sampled them, instead of from a further pass.

    log pi_old(t) = logits_t(token) / temperature - logsumexp(logits_t / temperature)

Where one process samples and trains with the same weights in float32, both passes compute the same numbers up to rounding (about
1e-6 nats: a token at a time and a whole row are matrix products of other shapes; tests/algorithm/test_sampled_logps.py). They
differ, and the further pass is made, where

* another process or engine samples (`rollout=vllm_*`, `rollout.staleness`), or transformers' continuous batching;
* weights or computation are not float32: in bfloat16 they differ by about 1e-2 nats;
* a dropout is on, whose masks differ;
* weights are partitioned (ZeRO-3, FSDP2), or a completion has several turns, which are sampled one after another.

With a value head on the policy's trunk its values are read in the same pass.

Written against TRL 1.16. Shapes: B completions of this rank, T tokens of the longest one, V tokens of the vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import is_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer
from transformers.integrations import is_deepspeed_zero3_enabled

_DROPOUTS = (
    "attention_dropout",
    "dropout",
    "hidden_dropout",
    "activation_dropout",
)  # rates of attention layers


class Recorder:
    """Reads log-probabilities, and values, while a policy samples.

    Args:
        model: The policy without wrappers.
        temperature: Of sampling and of scoring.
        head: Gives the values, (B, 1), of last hidden states, (B, D); None: no values are read.
    """

    def __init__(
        self, model: PreTrainedModel, temperature: float, head: Callable[[Tensor], Tensor] | None
    ) -> None:
        self._temperature, self._head = temperature, head
        self._logps: list[Tensor] = []  # of each sampled token but the last ones, (B,)
        self._newest: Tensor | None = None  # of the token that is sampled next, (B, V)
        self._values: list[Tensor] = []  # before each sampled token, (B,)
        self._handles = [model.register_forward_hook(self._read, with_kwargs=True)]
        if head is not None:
            self._handles.append(model.base_model.register_forward_hook(self._read_values))

    def close(self) -> None:
        """Stop reading."""
        for handle in self._handles:
            handle.remove()

    def _read(self, module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if self._newest is not None:
            self._logps.append(self._of(kwargs["input_ids"][:, -1]))
        self._newest = torch.log_softmax(output.logits[:, -1].float() / self._temperature, dim=-1)

    def _read_values(self, module: Any, args: Any, output: Any) -> None:
        assert self._head is not None
        self._values.append(self._head(output.last_hidden_state[:, -1]).squeeze(-1).float())

    def _of(self, tokens_b: Tensor) -> Tensor:
        assert self._newest is not None
        return self._newest.gather(1, tokens_b.unsqueeze(1)).squeeze(1)

    def result(self, completions: list[list[int]]) -> tuple[Tensor, Tensor | None] | None:
        """Return log-probabilities and values of completions, both (B, T) and 0 behind their ends; None: not all were read."""
        width = max(map(len, completions), default=0)
        if self._newest is None or len(self._logps) + 1 != width or len(self._newest) != len(completions):
            return None
        device = self._newest.device
        last = torch.tensor([ids[-1] if len(ids) == width else 0 for ids in completions], device=device)
        logps_bt = torch.stack([*self._logps, self._of(last)], dim=1)
        lengths_b = torch.tensor([len(ids) for ids in completions], device=device)
        is_token_bt = torch.arange(width, device=device) < lengths_b[:, None]
        values_bt = torch.stack(self._values, dim=1) * is_token_bt if self._head is not None else None
        return torch.where(is_token_bt, logps_bt, 0.0), values_bt


class SampledLogps(Trainer):
    """GRPO of TRL 1.16 whose scoring pass of the policy may be left out.

    Args:
        sampled_logps: Whether it is left out where it would repeat what sampling has computed.
    """

    def __init__(self, *args: Any, sampled_logps: bool = False, **kwargs: Any) -> None:
        self._takes_sampled = sampled_logps
        self._recorded: tuple[Tensor, Tensor | None] | None = None  # of the batch that is being scored
        self._awaits_policy = False  # TRL is about to score the policy
        super().__init__(*args, **kwargs)

    def value_head(self) -> nn.Module | None:
        """Return the value head on the policy's trunk; None: there is none."""
        return None

    def scoring_differs(self) -> str | None:
        """Return why a scoring pass would not repeat what sampling computes; None: it would."""
        model = self.model
        if self.use_vllm or self._ahead is not None or self.use_transformers_continuous_batching:
            return "another engine samples"
        if self.tools or self.environment_factories is not None or self.rollout_func is not None:
            return "completions may have several turns"
        if self.is_fsdp_enabled or is_deepspeed_zero3_enabled():
            return "the weights are partitioned"
        if self.accelerator.mixed_precision != "no" or any(
            weight.dtype != torch.float32 for weight in model.parameters()
        ):
            return "weights or computation are not float32"
        rates = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
        rates += [getattr(module, name, 0.0) for module in model.modules() for name in _DROPOUTS]
        if any(isinstance(rate, float) and rate > 0.0 for rate in rates):
            return "a dropout is on"
        return None

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        self._recorded = None
        self._awaits_policy = bool(self.model.training) and not self.policy_pass_is_skipped()
        try:
            batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        finally:
            self._awaits_policy = False
        return batch

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        if not self._takes_sampled or not self.model.training or self.scoring_differs() is not None:
            return super()._generate_single_turn(*args, **kwargs)
        model = self.accelerator.unwrap_model(self.model)
        inner = model.get_base_model() if is_peft_model(model) else model
        recorder = Recorder(inner, self.temperature, self.value_head())
        try:
            answer = super()._generate_single_turn(*args, **kwargs)
        finally:
            recorder.close()
        self._recorded = recorder.result(answer[0])
        return answer

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        # TRL scores the policy first; a pass of the reference may follow.
        if self._awaits_policy and not torch.is_grad_enabled():
            self._awaits_policy = False
            if self._recorded is not None:
                return self._recorded_logps(attention_mask[:, -logits_to_keep:]), None, None
        return super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )

    def _recorded_logps(self, mask_bt: Tensor) -> Tensor:
        """Return the log-probabilities of the batch that was sampled last, (B, T), 0 where the mask is 0."""
        assert self._recorded is not None
        return widened(self._recorded[0], mask_bt.size(1)).masked_fill(mask_bt == 0, 0.0)

    def policy_logps(self, batch: dict[str, Any]) -> Tensor:
        """Return the policy's log-probabilities of a newly sampled batch, (B, T)."""
        if self._recorded is not None:
            return self._recorded_logps(batch["completion_mask"])
        logps_bt: Tensor = super().policy_logps(batch)
        return logps_bt


def widened(numbers_bt: Tensor, width: int) -> Tensor:
    """Return numbers of tokens with zeros behind them, up to `width`."""
    return torch.nn.functional.pad(numbers_bt, (0, width - numbers_bt.size(1)))
