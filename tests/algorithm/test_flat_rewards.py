"""Equal rewards: advantages of exactly 0, and weights that do not move."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase
from trl import RLOOConfig

from r1exp.algorithm.advantages import flat_groups, normalized_then_summed
from r1exp.algorithm.kl_controller import KlController, KlSettings
from r1exp.algorithm.ppo_loss import explained_variance
from r1exp.algorithm.trainers import Rloo

KL = KlSettings(target=None, rate=0.1, limit=0.2)


def test_explained_variance_of_equal_returns_is_unknown() -> None:
    values = torch.randn(4, 37)
    returns = (0.7 - values) + values  # 0.7, rounded in different ways
    assert returns.unique().numel() > 1
    assert explained_variance(values, returns, torch.ones(4, 37)) is None


def test_groups_of_equal_rewards_are_found_whatever_their_parts() -> None:
    equal = torch.tensor([[0.7, 0.1], [0.1, 0.7], [0.3, 0.5], [0.7, 0.1]])
    other = torch.tensor([[0.7, 0.1], [0.7, 0.1], [0.7, 0.1], [0.7, 0.1001]])
    unknown = torch.tensor([[0.7, torch.nan], [torch.nan, torch.nan], [0.7, torch.nan], [0.7, torch.nan]])
    flat = flat_groups(torch.cat([equal, other, unknown]), torch.ones(2), 4)
    assert flat.view(3, 4).all(dim=1).tolist() == [True, False, True]


def test_normalizing_constant_rewards_before_summing_gives_no_advantages() -> None:
    rewards = torch.stack([torch.full((12,), 0.7), torch.full((12,), 0.1)], dim=1)
    assert not normalized_then_summed(rewards, torch.ones(2), 6).any()


def test_normalizing_before_summing_equals_numpy() -> None:
    rewards = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    rewards[:6, 1] = 0.7  # constant in the first group
    weights = torch.tensor([1.0, 0.5])
    found = normalized_then_summed(rewards, weights, 6)
    totals = []
    for group in rewards.double().numpy().reshape(2, 6, 2):
        for row in group:
            parts = [
                0.0 if abs(column - column[0]).max() < 1e-6 else (value - column.mean()) / (column.std(ddof=1) + 1e-4)
                for value, column in zip(row, group.T, strict=True)
            ]  # fmt: skip
            totals.append(parts[0] + 0.5 * parts[1])
    totals_n = torch.tensor(totals)
    expected = (totals_n - totals_n.mean()) / (totals_n.std() + 1e-4)
    torch.testing.assert_close(found.double(), expected.double(), atol=1e-5, rtol=1e-5)


def paid_the_same(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [0.7] * len(completion_ids)


def moved(trainer: Any, weights: Callable[[torch.nn.Module], torch.Tensor]) -> bool:
    before = weights(trainer.model).clone()
    trainer.train()
    return not torch.equal(before, weights(trainer.model))


def only_policy(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([w.detach().flatten() for n, w in model.named_parameters() if "critic" not in n])


@pytest.mark.slow
@pytest.mark.parametrize("scaling", ["group", "batch", "none", "normalize_then_sum"])
def test_grpo_does_not_learn_from_equal_rewards(
    grpo: Callable[..., Any], weights: Callable[[torch.nn.Module], torch.Tensor], scaling: str
) -> None:
    changes: dict[str, Any] = {"num_generations": 8, "per_device_train_batch_size": 16, "loss_type": "dapo"}
    key = "multi_objective_aggregation" if scaling == "normalize_then_sum" else "scale_rewards"
    assert not moved(grpo(paid_the_same, **changes, **{key: scaling}), weights)


@pytest.mark.slow
def test_rloo_does_not_learn_from_equal_rewards(
    tiny: Path,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    weights: Callable[[torch.nn.Module], torch.Tensor],
) -> None:
    arguments = RLOOConfig(
        output_dir=str(tmp_path / "checkpoints"), max_steps=2, learning_rate=1e-2, beta=0.0, num_generations=8,
        per_device_train_batch_size=16, max_completion_length=6, bf16=False, use_cpu=True, report_to="none",
        disable_tqdm=True, save_strategy="no", gradient_checkpointing=False,
    )  # fmt: skip
    trainer = Rloo(
        model=AutoModelForCausalLM.from_pretrained(tiny), reward_funcs=paid_the_same, args=arguments,
        train_dataset=Dataset.from_list([{"prompt": f"What is {n} + 1?"} for n in range(4)]),
        processing_class=tokenizer, good_checkpoint=lambda most: None, kl=KlController(KL, 0.0),
    )  # fmt: skip
    assert not moved(trainer, weights)


@pytest.mark.slow
def test_the_policy_of_ppo_does_not_learn_from_equal_rewards(ppo: Callable[..., Any]) -> None:
    trainer = ppo("separate", paid_the_same, options={"lam": 1.0}, kl=KlController(KL, 0.0), max_steps=2)
    assert not moved(trainer, only_policy)
