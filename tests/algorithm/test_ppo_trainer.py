from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from r1exp.algorithm.critic import Critic
from r1exp.algorithm.ppo_trainer import Ppo
from r1exp.errors import Refused
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


@pytest.mark.parametrize("at", [pytest.param(2, id="between passes"), pytest.param(3, id="in a pass")])
def test_reshuffled_minibatches_resume_bit_for_bit(
    ppo: Callable[..., Ppo], weights: Callable[..., torch.Tensor], tmp_path: Path, at: int
) -> None:
    settings: dict[str, Any] = {
        "num_iterations": 2,
        "max_steps": 4,
        "save_strategy": "steps",
        "save_steps": 1,
    }
    whole = ppo("shared", **settings)
    whole.train()
    resumed = ppo("shared", **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoints" / f"checkpoint-{at}"))
    assert torch.equal(weights(resumed.model), weights(whole.model))


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


def test_policy_and_critic_are_clipped_apart(ppo: Callable[..., Ppo]) -> None:
    trainer = ppo("separate", max_grad_norm=0.01)
    trainer.create_optimizer()
    torch.manual_seed(0)
    for weight in trainer.model.parameters():
        weight.grad = torch.randn_like(weight)
    own = [weight.grad for weight in critic_of(trainer).parameters() if weight.grad is not None]
    before = torch.cat([gradient.flatten() for gradient in own]).norm().item()
    policy = gradients(trainer.model).norm().item()
    assert trainer._clip_grad_norm(trainer.model) == pytest.approx(policy, rel=1e-5)
    assert trainer._critic_norm == pytest.approx(before, rel=1e-5)
    for part in (gradients(trainer.model), torch.cat([gradient.flatten() for gradient in own])):
        assert part.norm().item() == pytest.approx(0.01, rel=1e-3)


def test_both_norms_are_logged(ppo: Callable[..., Ppo]) -> None:
    trainer = ppo("separate", max_steps=1)
    trainer.train()
    row = trainer.state.log_history[0]
    assert row["grad_norm"] > 0.0 and row["grad_norm/critic"] > 0.0
    assert row["grad_norm"] != row["grad_norm/critic"]


def trained_names(trainer: Ppo) -> set[str]:
    return {name for name, weight in critic_of(trainer).named_parameters() if weight.requires_grad}


def test_with_lora_the_critic_trains_adapters_and_its_head(ppo: Callable[..., Ppo]) -> None:
    trainer = ppo("separate", lora=LORA, max_steps=1, gradient_checkpointing=True)
    names = trained_names(trainer)
    assert {"head.weight", "head.bias"} <= names
    assert all("lora_" in name for name in names - {"head.weight", "head.bias"}) and len(names) > 2
    frozen = {n: w.clone() for n, w in critic_of(trainer).named_parameters() if n not in names}
    trainer.train()
    assert all(torch.equal(weight, critic_of(trainer).get_parameter(name)) for name, weight in frozen.items())
    assert critic_of(trainer).head.weight.abs().sum() > 0.0


@pytest.mark.parametrize("lora", [pytest.param(None, id="all weights"), pytest.param(LORA, id="LoRA")])
@pytest.mark.parametrize("kind", ["separate", "shared"])
def test_a_saved_critic_starts_another_one_with_the_same_values(
    ppo: Callable[..., Ppo], tmp_path: Path, kind: str, lora: Any
) -> None:
    trainer = ppo(kind, lora=lora, max_steps=2)
    trainer.train()
    ids = torch.randint(5, 50, (3, 9))
    hidden = torch.randn(3, 9, 32)
    critic = critic_of(trainer).eval()
    with torch.no_grad():
        values = critic(ids, torch.ones_like(ids), hidden)
    folder = tmp_path / "artifact"
    folder.mkdir()
    trainer.save_beside(trainer.model.state_dict(), folder)
    again = ppo(kind, start=folder / "critic")
    with torch.no_grad():
        found = critic_of(again)(ids, torch.ones_like(ids), hidden)
    torch.testing.assert_close(found, values, atol=1e-6, rtol=1e-5)
    assert values.abs().max() > 0.0


def test_a_critic_with_adapters_is_saved_from_its_trained_weights_alone(
    ppo: Callable[..., Ppo], tmp_path: Path
) -> None:
    trainer = ppo("separate", lora=LORA, max_steps=2)
    trainer.train()
    trained = {
        name: weight.detach() for name, weight in trainer.model.named_parameters() if weight.requires_grad
    }
    for name, weights in (("whole", trainer.model.state_dict()), ("trained", trained)):
        (tmp_path / name).mkdir()
        trainer.save_beside(weights, tmp_path / name)
    whole, alone = (
        load_file(tmp_path / name / "critic" / "model.safetensors") for name in ("whole", "trained")
    )
    assert whole.keys() == alone.keys()
    assert all(torch.equal(whole[name], alone[name]) for name in whole)


def test_a_reward_model_is_a_critic_with_its_head(
    ppo: Callable[..., Ppo], tiny: Path, tmp_path: Path
) -> None:
    scorer = AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=1)
    scorer.config.pad_token_id = 0
    scorer.save_pretrained(tmp_path / "scorer")
    trainer = ppo("separate", start=tmp_path / "scorer")
    ids = torch.randint(5, 50, (3, 9))
    with torch.no_grad():
        values = critic_of(trainer)(ids, torch.ones_like(ids), None)
        scores = scorer(input_ids=ids[:, :-1], attention_mask=torch.ones_like(ids[:, :-1])).logits
    torch.testing.assert_close(values[:, -1:], scores, atol=1e-6, rtol=1e-5)


def test_a_classifier_of_several_labels_is_no_critic(
    ppo: Callable[..., Ppo], tiny: Path, tmp_path: Path
) -> None:
    AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=3).save_pretrained(tmp_path / "three")
    with pytest.raises(Refused, match=r"a classifier with 3 labels, and a value is one number"):
        ppo("separate", start=tmp_path / "three")


def test_during_the_warmup_only_the_critic_changes(ppo: Callable[..., Ppo]) -> None:
    trainer = ppo("separate", options={"critic_warmup_steps": 2}, max_steps=2)
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    changed = {
        name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])
    }
    assert changed and all("critic" in name for name in changed)
    after = ppo("separate", options={"critic_warmup_steps": 1}, max_steps=2)
    after.train()
    assert any(
        not torch.equal(weight, before[name])
        for name, weight in after.model.named_parameters()
        if "critic" not in name
    )


def test_the_critic_learns_from_targets_with_a_lambda_of_their_own(ppo: Callable[..., Ppo]) -> None:
    trainer = ppo("separate", options={"length_alpha": 0.5, "critic_lam": 1.0, "whiten_advantages": False})
    perturb(critic_of(trainer), seed=0)
    batch = batch_of(trainer)
    values, mask, returns, advantages = (
        batch[name].double().numpy() for name in ("values", "value_mask", "returns", "advantages")
    )
    for row in range(len(values)):
        length = int(mask[row].sum())
        lam = max(0.0, 1.0 - 1.0 / (0.5 * length))
        # lambda 1, gamma 1: the sum of the rewards that are left, which gives the rewards
        rewards = returns[row, :length] - np.append(returns[row, 1:length], 0.0)
        following = np.append(values[row, 1:length], 0.0)
        expected = 0.0
        for t in reversed(range(length)):
            expected = rewards[t] + following[t] - values[row, t] + lam * expected
            assert advantages[row, t] == pytest.approx(expected, abs=1e-5)


def test_the_critic_is_not_sent_to_vllm(ppo: Callable[..., Ppo]) -> None:
    trainer = ppo("separate")

    def every_parameter() -> Iterator[tuple[str, torch.Tensor]]:
        yield from trainer.model.named_parameters()

    trainer.vllm_generation = SimpleNamespace(_iter_named_params=every_parameter)
    trainer._keep_critic_from_vllm()
    names = {name for name, _ in trainer.vllm_generation._iter_named_params()}
    assert names == set(dict(AutoModelForCausalLM.from_config(trainer.model.config).named_parameters()))
