"""PPO on TRL's GRPOTrainer: the same rollouts, rewards and reference, with advantages from a critic.

    r_t = -beta log(pi_old / pi_ref) + [t last] score      A = whiten(GAE(gamma, lambda))
    L   = -min(rho A, clip(rho, 1 - eps, 1 + eps) A) + c 1/2 max((V - R)^2, (clip(V) - R)^2)

TRL 1.16 has no PPO trainer. The loss of its GRPOTrainer accepts advantages of shape (B, T), so PPO needs
only short overrides. Each states its reason, and tests/algorithm/test_upstream.py fails when a replaced
method changes upstream.

Source: PPO (arXiv:1707.06347), with KL in the reward as in InstructGPT, eq. 2 (arXiv:2203.02155).

Shapes: B completions of this rank, T tokens of the longest one, F reward functions, N completions of all ranks.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOConfig

from r1exp.algorithm.clip_apart import Engine
from r1exp.algorithm.critic import (
    NAME,
    Critic,
    attach,
    critic_alone,
    separate_critic,
    shared_critic,
    without_critic,
)
from r1exp.algorithm.gae import gae, length_adaptive_lambda, moments, whiten
from r1exp.algorithm.ppo_loss import explained_variance, token_rewards, value_losses
from r1exp.algorithm.sampled_logps import widened
from r1exp.algorithm.short_passes import rearranged
from r1exp.algorithm.steadiness import Steadiness
from r1exp.algorithm.trainers import Grpo, Policy
from r1exp.model.shards import is_sharded, load_shards, plain, save_shards, start_alike
from r1exp.paths import ArtifactPaths, CheckpointPaths


@dataclass(frozen=True)
class PpoOptions:
    """PPO's options in addition to GRPO's arguments; see `r1exp.algorithm.ppo.Ppo`."""

    gamma: float
    lam: float  # of the policy's advantages
    value_coefficient: float
    value_clip: float | None
    whiten_advantages: bool
    critic_learning_rate: float
    length_alpha: float | None = None  # instead of `lam`: 1 - 1 / (alpha l) for a completion of l tokens
    critic_lam: float | None = None  # of the critic's targets; None: `lam`
    critic_warmup_steps: int = 0  # optimizer steps at the start that change the critic only


@dataclass
class PpoConfig(GRPOConfig):
    """GRPO's arguments, but one completion per prompt is allowed, because PPO needs no group as a baseline."""

    def __post_init__(self) -> None:
        # TRL 1.16 refuses `num_generations < 2`. Two divides every batch size that r1exp computes.
        wanted: int = self.num_generations  # type: ignore[has-type]  # TRL ships no types
        self.num_generations = max(wanted, 2)
        super().__post_init__()
        self.num_generations = wanted


class Ppo(Grpo):
    """Proximal policy optimization.

    Args:
        critic: Makes the critic for the policy; None: every value is 0 (REINFORCE with GAE's discounting).
        options: PPO's own numbers.
    """

    config = PpoConfig

    @classmethod
    def own_arguments(cls, algorithm: Any, policy: Policy) -> dict[str, Any]:
        """Return the critic and PPO's own numbers."""
        critic = algorithm.critic

        def separate(model: PreTrainedModel) -> Critic:
            if critic.path is not None:
                return separate_critic(critic.path, None, policy.tokenizer, model.dtype, lora=policy.lora)
            return separate_critic(
                policy.path,
                policy.revision,
                policy.tokenizer,
                model.dtype,
                trusts_code=policy.trusts_code,
                lora=policy.lora,
            )

        shared = partial(shared_critic, path=critic.path)
        return {
            **_short(algorithm),
            "critic": {"separate": separate, "shared": shared, "zero": None}[critic.kind],
            "options": PpoOptions(
                gamma=algorithm.gamma,
                lam=algorithm.gae_lambda,
                length_alpha=algorithm.length_alpha,
                critic_lam=critic.gae_lambda,
                critic_warmup_steps=critic.warmup_steps,
                value_coefficient=algorithm.value_coefficient,
                value_clip=algorithm.value_clip,
                whiten_advantages=algorithm.whiten_advantages,
                critic_learning_rate=critic.learning_rate,
            ),
        }

    def __init__(
        self,
        *args: Any,
        critic: Callable[[PreTrainedModel], Critic] | None,
        options: PpoOptions,
        **kwargs: Any,
    ) -> None:
        self.options = options
        self._build_critic = critic
        self._critic: Critic | None = None
        self._engine: Engine | None = None  # DeepSpeed's
        self._critic_norm = 0.0  # of its gradient in the last optimizer step
        self._seen: list[Tensor] = []  # values of the last scoring passes, newest last
        super().__init__(*args, **kwargs)
        if self.use_vllm:
            self._keep_critic_from_vllm()

    def extend_forward(self) -> None:
        """Attach the critic."""
        # After TRL has built the reference, wrapped adapters and patched the forward, which must not meet the critic.
        if self._build_critic is None:
            return
        self._critic = self._build_critic(_inner(self.model))
        if self.is_fsdp_enabled:
            start_alike(self._critic, self.accelerator.device)  # TRL has seeded the ranks apart by now
            attach(self.model, self._critic)  # moved to the device when it is sharded
        else:
            attach(self.model, self._critic.to(self.accelerator.device))

    def further_trunks(self) -> list[torch.nn.Module]:
        """Return the critic's trunk."""
        has_own = self._critic is not None and self._critic.backbone is not None
        return [self._critic.backbone] if has_own else []  # type: ignore[union-attr,list-item]  # checked

    def _keep_critic_from_vllm(self) -> None:
        # TRL sends every named parameter to vLLM, which has no critic.
        theirs = self.vllm_generation._iter_named_params

        def policy_only() -> Iterator[tuple[str, Tensor]]:
            return ((name, weight) for name, weight in theirs() if not name.startswith(f"{NAME}."))

        self.vllm_generation._iter_named_params = policy_only

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        # The critic has its own learning rate: its weights move from transformers' parameter groups to a new one.
        optimizer = super().create_optimizer(*args, **kwargs)
        if self._critic is not None and not any(group.get(NAME) for group in optimizer.param_groups):
            own = self._critic_weights()
            names = {id(weight) for weight in own}
            for group in optimizer.param_groups:
                group["params"] = [weight for weight in group["params"] if id(weight) not in names]
            rate = self.options.critic_learning_rate
            if self.is_fsdp_enabled:
                # With adapters a group may be empty, and torch 2.13 restores an empty group of shards without its settings.
                optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
            optimizer.add_param_group({"params": own, "lr": rate, "weight_decay": 0.0, NAME: True})
        return optimizer

    def _critic_weights(self) -> list[Tensor]:
        """Return the weights of the critic that are trained."""
        assert self._critic is not None
        return [weight for weight in self._critic.parameters() if weight.requires_grad]

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        # DeepSpeed clips inside the backward pass; its optimizer exists since the trainer was prepared.
        wrapped = getattr(self.accelerator, "deepspeed_engine_wrapped", None)
        if self._engine is None and self._critic is not None and wrapped is not None:
            self._engine = Engine(wrapped.engine.optimizer, NAME)
        return super().training_step(*args, **kwargs)

    def _clip_grad_norm(self, model: Any) -> Any:
        # Policy and critic are clipped apart, each to max_grad_norm.
        if self._critic is None:
            return super()._clip_grad_norm(model)
        return self._clip_apart(model, self.args.max_grad_norm)

    def _clip_apart(self, model: Any, limit: float) -> float:
        """Clip both, keep the critic's norm, and return the policy's; DeepSpeed has done it already."""
        if self._engine is not None:
            self._critic_norm = self._engine.norm(is_marked=True)
            return self._engine.norm(is_marked=False)
        own = self._critic_weights()
        names = {id(weight) for weight in own}
        policy = [weight for weight in model.parameters() if id(weight) not in names]
        norm = self.accelerator.clip_grad_norm_(policy, limit)  # the scaler of float16 unscales once
        has_scaler = self.accelerator.scaler is not None
        clip = torch.nn.utils.clip_grad_norm_ if has_scaler else self.accelerator.clip_grad_norm_
        self._critic_norm = float(plain(clip(own, limit)))
        return float(plain(norm))

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        # `grad_norm` is the policy's, and `grad_norm/critic` the critic's.
        if self._critic is None:
            return super()._get_grad_norm(model, grad_norm=grad_norm)
        if grad_norm is None:  # max_grad_norm=0
            grad_norm = self._clip_apart(model, math.inf)
        self._metrics["train"]["grad_norm/critic"].append(self._critic_norm)
        if self.state.global_step == self.options.critic_warmup_steps:
            self.steadiness = Steadiness()  # before it the policy had no gradient
        return super()._get_grad_norm(
            model, grad_norm=grad_norm if math.isfinite(self._critic_norm) else self._critic_norm
        )

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        # Collects the values from the output of the forward, because TRL keeps only three of its fields.
        chunks: list[Tensor] = []

        def pick(module: Any, inputs: Any, output: Any) -> None:
            if getattr(output, "state_values", None) is not None:
                chunks.append(output.state_values)

        handle = model.register_forward_hook(pick)
        try:
            result = super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        finally:
            handle.remove()
        logps_bt = result[0]
        self._seen.append(torch.cat(chunks)[:, -logps_bt.size(1) :] if chunks else torch.zeros_like(logps_bt))
        return result

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        # Replaces TRL's advantages, (B,), by those of GAE, (B, T).
        self._seen.clear()
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        # TRL skips this forward pass if one optimizer step follows, but the values need it.
        if self.policy_pass_is_skipped():
            self._seen.clear()
            logps_bt = self.policy_logps(batch)
            batch.setdefault("old_per_token_logps", logps_bt)  # the sampler's if that had older weights
        # The values of the first pass; with adapters, the pass of the reference comes second.
        values_bt = self._seen[0] if self._recorded is None else self._values_alone(batch)
        scores_b = self.totals()[self.own_slice(len(inputs))]
        mask_bt = batch["completion_mask"] * batch.get("tool_mask", 1) * torch.isfinite(scores_b).unsqueeze(1)
        log_ratio_bt = batch["old_per_token_logps"] - batch.get(
            "ref_per_token_logps", batch["old_per_token_logps"]
        )
        rewards_bt = token_rewards(scores_b.nan_to_num(), log_ratio_bt, mask_bt, self.kl.beta)
        advantages_bt, returns_bt = self._estimates(rewards_bt, values_bt, mask_bt)
        self._log_rollout(values_bt, advantages_bt, returns_bt, mask_bt)
        if self.options.whiten_advantages:
            advantages_bt = whiten(advantages_bt, mask_bt, self._sum_over_ranks, parts_bt=returns_bt)
        mean_b = (advantages_bt * mask_bt).sum(dim=1) / mask_bt.sum(dim=1).clamp(min=1)
        self._log_advantages(self.accelerator.gather(mean_b))
        return batch | {
            "advantages": advantages_bt, "values": values_bt, "returns": returns_bt, "value_mask": mask_bt,
        }  # fmt: skip

    def value_head(self) -> torch.nn.Module | None:
        """Return the value head on the policy's trunk; None: there is none."""
        return self._critic.head if self._critic is not None and self._critic.backbone is None else None

    def _values_alone(self, batch: dict[str, Any]) -> Tensor:
        """Return the critic's values of a new batch whose policy needs no scoring pass, (B, T)."""
        mask_bt = batch["completion_mask"]
        assert self._recorded is not None
        if self._critic is None:
            return torch.zeros_like(mask_bt, dtype=torch.float32)
        if self._recorded[1] is not None:
            return widened(self._recorded[1], mask_bt.size(1)).masked_fill(mask_bt == 0, 0.0)
        ids_bs = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        attention_bs = torch.cat([batch["prompt_mask"], mask_bt], dim=1)
        with torch.no_grad():
            labels_bs = ids_bs.masked_fill(attention_bs == 0, -100)
            labels_bs[:, : -mask_bt.size(1)] = -100
            values_bs = self._critic.values_in_groups(ids_bs, attention_bs, labels_bs, self.row_groups())
        return values_bs[:, -mask_bt.size(1) :]

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        # Each further pass over a generation batch has its rows in other minibatches.
        passes = self._buffered_inputs
        is_new = self._step % self.passes_per_generation() == 0
        if self.model.training and passes and not is_new and self._step % self.args.steps_per_generation == 0:
            generator = torch.Generator().manual_seed(
                _seed(self.args.seed, self._step, self.args.process_index)
            )
            rows = sum(len(each["prompt_ids"]) for each in passes)
            order = torch.randperm(rows, generator=generator).to(passes[0]["prompt_ids"].device)
            self._buffered_inputs = self.in_order(rearranged(passes, order))
        inputs: dict[str, Any] = super()._prepare_inputs(generation_batch)
        return inputs

    def _estimates(self, rewards_bt: Tensor, values_bt: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
        """Return the advantages of the policy and the returns that the critic learns, both (B, T)."""
        options = self.options
        lam: float | Tensor = options.lam
        if options.length_alpha is not None:
            lam = length_adaptive_lambda(mask_bt, options.length_alpha)
        advantages_bt, returns_bt = gae(rewards_bt, values_bt, mask_bt, options.gamma, lam)
        if options.length_alpha is not None or options.critic_lam is not None:
            critic_lam = options.lam if options.critic_lam is None else options.critic_lam
            _, returns_bt = gae(rewards_bt, values_bt, mask_bt, options.gamma, critic_lam)
        return advantages_bt, returns_bt

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        # TRL's clipped policy loss, with `beta` 0 because the KL is in the reward. The critic's loss has the
        # normalizer of loss_type=dapo: the completion tokens of one optimizer step over all ranks.
        self._seen.clear()
        loss = super()._compute_loss(model, inputs)
        if self._critic is None:
            return loss
        if self.state.global_step < self.options.critic_warmup_steps:
            loss = loss * 0.0  # the gradient of the policy is 0, and with it Adam's update
        losses_bt, clipped_bt = value_losses(
            self._seen[-1], inputs["values"], inputs["returns"], self.options.value_clip
        )
        mask_bt = inputs["value_mask"].to(losses_bt.dtype)
        tokens = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
        tokens = tokens * self.current_gradient_accumulation_steps / self.args.steps_per_generation
        share = self.token_share(inputs)
        self._log_mean("value_loss", losses_bt.detach(), mask_bt, share)
        self._log_mean("clip_ratio/value", clipped_bt, mask_bt, share)
        return loss + self.options.value_coefficient * (losses_bt * mask_bt).sum() / tokens

    def _log_rollout(
        self, values_bt: Tensor, advantages_bt: Tensor, returns_bt: Tensor, mask_bt: Tensor
    ) -> None:
        """Log values, returns, advantages and explained variance of new completions, before training on them."""
        metrics = self._metrics["train"]
        for name, numbers_bt in (
            ("values", values_bt),
            ("returns", returns_bt),
            ("advantages", advantages_bt),
        ):
            mean, variance = moments(numbers_bt, mask_bt, self._sum_over_ranks)
            metrics[f"{name}/mean"].append(mean.item())
            metrics[f"{name}/std"].append(variance.sqrt().item())
        explained = explained_variance(values_bt, returns_bt, mask_bt, self._sum_over_ranks)
        if explained is not None:
            metrics["explained_variance"].append(explained)

    def _log_mean(self, name: str, numbers_bt: Tensor, mask_bt: Tensor, share: float) -> None:
        mean, _ = moments(numbers_bt, mask_bt, self._sum_over_ranks)
        self._metrics["train"][name].append(mean.item() * share)

    def _sum_over_ranks(self, numbers: Tensor) -> Tensor:
        return self.accelerator.reduce(numbers, reduction="sum")

    def _steer(self, kl: float) -> None:
        # The controller's beta is used in the reward. TRL's own beta does not change; it only keeps the reference.
        self._kl_window.clear()
        self.kl.observe(kl)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        # `from_pretrained` must find a plain policy, so the critic is saved in a file of its own.
        weights = self.model.state_dict() if state_dict is None else state_dict
        super()._save(output_dir, state_dict=without_critic(weights))
        if self._critic is not None:
            folder = Path(output_dir or self.args.output_dir)
            trained = self._critic.trained_names()
            own = {name: weight for name, weight in critic_alone(weights).items() if name in trained}
            save_file(own, CheckpointPaths(folder).critic)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self._has_critic_apart():
            save_shards(self._critic_shards(), CheckpointPaths(Path(output_dir)).critic_shards)

    def _has_critic_apart(self) -> bool:
        """Whether FSDP2 saves the adapters of the policy only; without adapters it saves the critic with the policy."""
        return self._critic is not None and is_sharded(self.model) and is_peft_model(self.model)

    def _critic_shards(self) -> dict[str, Tensor]:
        assert self._critic is not None
        trained = self._critic.trained_names()
        return {name: weight for name, weight in self._critic.named_parameters() if name in trained}

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self._has_critic_apart():
            load_shards(self._critic_shards(), CheckpointPaths(Path(resume_from_checkpoint)).critic_shards)
        elif self._critic is not None and not is_sharded(self.model):
            saved = load_file(CheckpointPaths(Path(resume_from_checkpoint)).critic)
            self._critic.load_state_dict({**self._critic.state_dict(), **saved})

    def save_beside(self, weights: dict[str, Tensor], folder: Path) -> None:
        """Save the critic in `critic/`."""
        if self._critic is not None:
            self._critic.save(critic_alone(weights), _inner(self.model), ArtifactPaths(folder).critic)


class ReinforcePp(Ppo):
    """REINFORCE++ (arXiv:2501.03262): PPO's clipped loss with returns, normalized over the batch, as advantages."""

    @classmethod
    def own_arguments(cls, algorithm: Any, policy: Policy) -> dict[str, Any]:
        """Return no critic, and the numbers with which GAE is the return."""
        del policy
        options = PpoOptions(
            gamma=1.0,
            lam=1.0,
            value_coefficient=0.0,
            value_clip=None,
            whiten_advantages=True,
            critic_learning_rate=0.0,
        )
        return {**_short(algorithm), "critic": None, "options": options}


def _short(algorithm: Any) -> dict[str, Any]:
    """Return the arguments of the parts that PPO shares with GRPO."""
    return {"short_passes": algorithm.short_passes, "sampled_logps": algorithm.sampled_logps}


def _seed(*numbers: int) -> int:
    """Return a seed that depends on all of the numbers."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, numbers)).encode()).digest()[:6], "big")


def _inner(model: Any) -> PreTrainedModel:
    return model.get_base_model() if is_peft_model(model) else model
