"""Tests of TRL's advantages and losses, which r1exp relies on, against the papers' formulas in NumPy float64."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase
from trl import DPOConfig

from r1exp.algorithm.trainers import Dpo, Grpo

pytestmark = pytest.mark.slow

NONE = float("nan")
GROUPS = np.array(
    [
        [1.0, 0.0, 0.5, -1.0],  # all scored
        [2.0, 2.0, 2.0, 2.0],  # no variance
        [1.0, NONE, 0.0, 0.25],  # one abstention
        [NONE, NONE, NONE, NONE],  # every reward abstained
    ]
)


def advantages_of(grpo: Callable[..., Grpo], scale: str) -> np.ndarray:
    rewards = [None if np.isnan(value) else float(value) for value in GROUPS.flatten()]
    trainer = grpo(
        reward=lambda **_: rewards,
        scale_rewards=scale,
        num_generations=4,
        per_device_train_batch_size=16,
        max_steps=1,
    )
    trainer.model.train()
    batch = trainer._generate_and_score_completions(list(next(iter(trainer.get_train_dataloader()))))
    return batch["advantages"].double().numpy().reshape(GROUPS.shape)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_of_grpo(grpo: Callable[..., Grpo], scale: str) -> None:
    deviation = GROUPS - np.array([[0.125], [2.0], [1.25 / 3], [0.0]])
    known = GROUPS[~np.isnan(GROUPS)]
    spread = {
        "group": np.array(
            [[np.std([1.0, 0.0, 0.5, -1.0], ddof=1)], [0.0], [np.std([1.0, 0.0, 0.25], ddof=1)], [1.0]]
        ),
        "batch": np.std(known, ddof=1),
        "none": 1.0 - 1e-4,
    }[scale]
    expected = np.nan_to_num(deviation / (spread + 1e-4))
    np.testing.assert_allclose(advantages_of(grpo, scale), expected, atol=1e-6)


def log_prob(model: torch.nn.Module, prompt: list[int], answer: list[int]) -> float:
    """Return log pi(answer | prompt), summed over its tokens, from plain logits in float64."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].numpy().astype(np.float64)
    rows = logits[len(prompt) - 1 : -1]
    normalized = (
        rows
        - np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1, keepdims=True))
        - rows.max(1, keepdims=True)
    )
    return float(sum(normalized[t, token] for t, token in enumerate(answer)))


def sigmoid_loss(x: np.ndarray, smoothing: float) -> float:
    del smoothing
    return float(np.mean(np.log1p(np.exp(-x))))


def robust_loss(x: np.ndarray, smoothing: float) -> float:
    right, flipped = np.log1p(np.exp(-x)), np.log1p(np.exp(x))
    return float(np.mean(((1 - smoothing) * right - smoothing * flipped) / (1 - 2 * smoothing)))


@pytest.mark.parametrize(
    ("loss_type", "smoothing", "formula"),
    [
        pytest.param("sigmoid", 0.0, sigmoid_loss, id="DPO, eq. 7"),
        pytest.param("robust", 0.1, robust_loss, id="label smoothing: robust DPO"),
    ],
)
def test_loss_of_dpo_on_ragged_pairs(
    tiny: Path,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    loss_type: str,
    smoothing: float,
    formula: Any,
) -> None:
    pairs = [("What is 1 + 2?", "3", "4 or 5"), ("What is 2 + 2? Think.", "It is 4", "5")]
    rows = [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for prompt, chosen, rejected in pairs
    ]
    policy = AutoModelForCausalLM.from_pretrained(tiny)
    arguments: dict[str, Any] = {
        "output_dir": str(tmp_path), "bf16": False, "use_cpu": True, "report_to": "none", "beta": 0.3,
        "loss_type": [loss_type], "label_smoothing": smoothing, "per_device_train_batch_size": 2,
        "gradient_checkpointing": False,
    }  # fmt: skip
    trainer = Dpo(
        model=policy, args=DPOConfig(**arguments), train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer, good_checkpoint=lambda most: None,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.05 * torch.randn_like(weight)
    policy.double()
    trainer.ref_model.double()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    loss = trainer.compute_loss(policy.train(), batch).item()

    reference = AutoModelForCausalLM.from_pretrained(tiny).double()
    margins = []
    for row in range(2):  # the batch is both chosen, then both rejected
        ratios = []
        for place in (row, row + 2):
            counts = batch["attention_mask"][place].bool()
            ids = batch["input_ids"][place][counts].tolist()
            start = int((~batch["completion_mask"][place][counts].bool()).sum())
            ratios.append(
                log_prob(policy, ids[:start], ids[start:]) - log_prob(reference, ids[:start], ids[start:])
            )
        margins.append(ratios[0] - ratios[1])
    assert loss == pytest.approx(formula(0.3 * np.array(margins), smoothing), abs=1e-6)
    assert abs(margins[0]) > 0.01
