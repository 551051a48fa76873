from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from trl.trainer.utils import RepeatSampler

from r1exp.algorithm.kl_controller import KlSettings
from r1exp.algorithm.resume import EpochRepeatSampler
from r1exp.algorithm.trainers import Grpo

ADAPTIVE = KlSettings(target=0.01, rate=0.5, limit=0.5)

# The task has 3 generation batches of 4 prompts per epoch.
ROWS = [
    pytest.param({}, 1, id="inside epoch 0"),
    pytest.param({}, 3, id="at the border of an epoch"),
    pytest.param({}, 4, id="inside a later epoch"),
    pytest.param(
        {"per_device_train_batch_size": 4, "steps_per_generation": 2}, 3, id="between two minibatches"
    ),
    pytest.param({"num_iterations": 3}, 2, id="between two passes over a generation batch"),
    pytest.param(
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}, 2, id="gradient accumulation"
    ),
    pytest.param({"kl": ADAPTIVE, "beta": 0.05}, 4, id="adaptive beta"),
    pytest.param({"lora": LoraConfig(r=2, target_modules="all-linear")}, 4, id="LoRA"),
]


def test_each_epoch_has_the_order_of_an_uninterrupted_run_of_trl() -> None:
    shape: dict[str, Any] = {"mini_repeat_count": 2, "batch_size": 3, "repeat_count": 2, "seed": 5}
    theirs = RepeatSampler(range(10), **shape)
    expected = [list(theirs) for _ in range(3)]
    ours = EpochRepeatSampler(range(10), **shape)
    for epoch in (2, 0, 1):  # in any order, as after a restart
        ours.set_epoch(epoch)
        assert list(ours) == expected[epoch]
    assert expected[0] != expected[1]


def test_tensors_of_the_device_cpu_0_can_be_loaded(tmp_path: Path) -> None:
    torch.save(torch.arange(3), tmp_path / "tensor.pt")
    loaded = torch.load(tmp_path / "tensor.pt", map_location=torch.device("cpu:0"))
    assert loaded.tolist() == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "at"), ROWS)
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    grpo: Callable[..., Grpo],
    weights: Callable[[torch.nn.Module], torch.Tensor],
    tmp_path: Path,
    changes: dict[str, Any],
    at: int,
) -> None:
    settings: dict[str, Any] = {
        "beta": 0.01,
        "max_steps": 6,
        "save_strategy": "steps",
        "save_steps": at,
    } | changes
    whole = grpo(**settings)
    whole.train()
    resumed = grpo(**settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoints" / f"checkpoint-{at}"))
    assert torch.equal(weights(resumed.model), weights(whole.model))
    assert resumed.kl.beta == whole.kl.beta


@pytest.mark.slow
def test_a_checkpoint_of_other_ranks_is_read_with_a_warning(
    grpo: Callable[..., Grpo], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "kl": ADAPTIVE,
        "beta": 0.05,
        "max_steps": 2,
        "save_strategy": "steps",
        "save_steps": 1,
    }
    first = grpo(**settings)
    first.train()
    checkpoint = tmp_path / "checkpoints" / "checkpoint-1"
    (checkpoint / "memory-0-of-1.pt").rename(checkpoint / "memory-0-of-4.pt")
    resumed = grpo(**settings)
    with pytest.warns(UserWarning, match="written by 4 ranks and is read by 1"):
        resumed.train(resume_from_checkpoint=str(checkpoint))
