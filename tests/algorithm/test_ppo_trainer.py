from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from r1exp.algorithm.critic import Critic
from r1exp.algorithm.ppo_trainer import Ppo
from r1exp.paths import CheckpointPaths

pytestmark = pytest.mark.slow

LORA = LoraConfig(r=2, target_modules="all-linear")


def batch_of(trainer: Ppo) -> dict[str, Any]:
    """Return the first minibatch of training."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return trainer._prepare_inputs(list(next(iter(trainer.get_train_dataloader()))))


def perturb(module: torch.nn.Module, seed: int) -> None:
    """Change every weight a little, so that none has its initial value."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.05 * torch.randn_like(weight))


def log_probs(model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    """Return the log-probability of each completion token, computed from plain logits and softmax."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    width = batch["completion_ids"].size(1)
    logits = model(input_ids=ids, attention_mask=mask).logits[:, -width - 1 : -1]
    return torch.log_softmax(logits, dim=-1).gather(-1, batch["completion_ids"].unsqueeze(-1)).squeeze(-1)


def critic_of(trainer: Ppo) -> Critic:
    critic = trainer._critic
    assert critic is not None
    return critic


def gradients(model: torch.nn.Module) -> torch.Tensor:
    found = [weight.grad for name, weight in model.named_parameters() if "critic" not in name]
    parts = [gradient.flatten() for gradient in found if gradient is not None]
    assert len(parts) == len(found)
    return torch.cat(parts)


@pytest.mark.parametrize("critic", ["zero", "separate"])
def test_with_zero_values_the_gradient_is_that_of_reinforce(
    ppo: Callable[..., Ppo], tiny: Path, critic: str
) -> None:
    trainer = ppo(critic, options={"lam": 1.0, "whiten_advantages": False}, steps_per_generation=1)
    # The policy must differ from the reference; the value head stays at zero.
    perturb(trainer.model.model, seed=0)
    batch = batch_of(trainer)
    trainer.compute_loss(trainer.model, batch).backward()
    ours = gradients(trainer.model)

    trainer.model.zero_grad()
    mask = batch["completion_mask"]
    logps = log_probs(trainer.model, batch)
    reference = log_probs(AutoModelForCausalLM.from_pretrained(tiny), batch)
    rewards = -0.05 * (logps - reference).detach() * mask
    lengths = mask.sum(1)
    for row, length in enumerate(lengths.tolist()):
        even = (batch["completion_ids"][row, :length] % 2 == 0).float().mean()
        rewards[row, length - 1] += even - 0.01 * length
    future_rewards = rewards.flip(1).cumsum(1).flip(1)
    (-(future_rewards * logps * mask).sum() / mask.sum()).backward()
    torch.testing.assert_close(ours, gradients(trainer.model), atol=1e-6, rtol=1e-4)
    assert rewards[0, 0].abs() > 1e-4  # the KL penalty has an effect


def test_the_loss_is_the_clipped_surrogate_and_the_clipped_value_loss(ppo: Callable[..., Ppo]) -> None:
    trainer = ppo("separate")
    perturb(critic_of(trainer), seed=2)
    batch = batch_of(trainer)
    # As after earlier optimizer steps, ratios and values must differ from the old ones.
    perturb(trainer.model, seed=1)
    loss = trainer.compute_loss(trainer.model, batch)

    logps = log_probs(trainer.model, batch).detach().double().numpy()
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    critic = critic_of(trainer)
    values = critic(ids, attention, None)[:, -batch["completion_ids"].size(1) :].detach().double().numpy()
    old, old_values, returns, advantages, mask = (
        batch[name].double().numpy()
        for name in ("old_per_token_logps", "values", "returns", "advantages", "completion_mask")
    )
    ratio = np.exp(logps - old)
    surrogate = np.minimum(ratio * advantages, np.clip(ratio, 0.8, 1.2) * advantages)
    near = np.clip(values, old_values - 0.2, old_values + 0.2)
    value_loss = 0.5 * np.maximum((values - returns) ** 2, (near - returns) ** 2)
    num_tokens = batch["num_items_in_batch"].item() / 2  # of one of two minibatches
    expected = ((-surrogate + 0.5 * value_loss) * mask).sum() / num_tokens
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    # Both clips have an effect.
    assert (np.abs(ratio - 1.0) > 0.2).any() and (np.abs(values - old_values) > 0.2).any()


@pytest.mark.parametrize(("critic", "touches_policy"), [("separate", False), ("shared", True)])
def test_the_value_loss_changes_the_policy_only_with_a_shared_trunk(
    ppo: Callable[..., Ppo], critic: str, touches_policy: bool
) -> None:
    found = []
    for coefficient in (0.0, 1.0):
        trainer = ppo(critic, options={"value_coefficient": coefficient})
        perturb(critic_of(trainer).head, seed=0)
        batch = batch_of(trainer)
        trainer.compute_loss(trainer.model, batch).backward()
        found.append(gradients(trainer.model))
    assert torch.allclose(found[0], found[1], atol=1e-7) is not touches_policy


def test_ppo_trains_with_one_completion_per_prompt(ppo: Callable[..., Ppo]) -> None:
    trainer = ppo("shared", num_generations=1)
    trainer.train()
    assert trainer.state.global_step == 3


def test_the_critic_has_its_own_learning_rate(ppo: Callable[..., Ppo]) -> None:
    trainer = ppo("separate", learning_rate=1e-4)
    groups = trainer.create_optimizer().param_groups
    own = {id(weight) for weight in critic_of(trainer).parameters()}
    rates = {id(weight) in own: group["lr"] for group in groups for weight in group["params"]}
    assert rates == {True: 1e-2, False: 1e-4}
    assert sum(len(group["params"]) for group in groups) == len(list(trainer.model.parameters()))


def test_the_documented_metrics_are_logged(ppo: Callable[..., Ppo]) -> None:
    trainer = ppo("separate")
    trainer.train()
    row = trainer.state.log_history[0]
    documented = {
        "explained_variance",
        "value_loss",
        "clip_ratio/value",
        "clip_ratio/region_mean",
        "kl",
        "beta",
    }
    assert documented | {"returns/mean", "values/mean", "advantages/std"} <= row.keys()


@pytest.mark.parametrize("lora", [pytest.param(None, id="all weights"), pytest.param(LORA, id="LoRA")])
@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_resumed_ppo_equals_an_uninterrupted_run_bit_for_bit(
    ppo: Callable[..., Ppo], weights: Callable[..., torch.Tensor], tmp_path: Path, critic: str, lora: Any
) -> None:
    settings: dict[str, Any] = {"lora": lora, "max_steps": 4, "save_strategy": "steps", "save_steps": 3}
    whole = ppo(critic, **settings)
    whole.train()
    resumed = ppo(critic, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoints" / "checkpoint-3"))
    assert torch.equal(weights(resumed.model), weights(whole.model))
    assert any("critic" in name for name, _ in whole.model.named_parameters())


def test_a_checkpoint_has_a_plain_policy_and_the_critic_in_its_own_file(
    ppo: Callable[..., Ppo], tmp_path: Path
) -> None:
    trainer = ppo("separate", max_steps=1, save_strategy="steps", save_steps=1)
    trainer.train()
    folder = tmp_path / "checkpoints" / "checkpoint-1"
    policy, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["unexpected_keys"] and not report["missing_keys"]
    for name, weight in policy.named_parameters():
        assert torch.equal(weight, trainer.model.get_parameter(name))
    assert CheckpointPaths(folder).critic.is_file()


def test_the_critic_is_not_sent_to_vllm(ppo: Callable[..., Ppo]) -> None:
    trainer = ppo("separate")

    def every_parameter() -> Iterator[tuple[str, torch.Tensor]]:
        yield from trainer.model.named_parameters()

    trainer.vllm_generation = SimpleNamespace(_iter_named_params=every_parameter)
    trainer._keep_critic_from_vllm()
    names = {name for name, _ in trainer.vllm_generation._iter_named_params()}
    assert names == set(dict(AutoModelForCausalLM.from_config(trainer.model.config).named_parameters()))
