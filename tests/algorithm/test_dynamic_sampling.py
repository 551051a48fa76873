from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from r1exp.algorithm.dynamic_sampling import DynamicSampling, FurtherPrompts, flat_groups
from r1exp.algorithm.trainers import Grpo

NAN = float("nan")


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param([1.0, 0.0, 2.0, 2.0], [1], id="one flat, one not"),
        pytest.param([1.0, NAN, NAN, NAN], [0, 1], id="fewer than two known"),
        pytest.param([0.1 + 0.2, 0.3, 0.3, 0.30001], [0], id="equal except for rounding"),
    ],
)
def test_flat_groups_have_equal_or_too_few_scores(scores: list[float], expected: list[int]) -> None:
    assert flat_groups(torch.tensor(scores), 2) == expected


def test_each_pass_of_further_prompts_has_a_new_order_and_can_be_resumed() -> None:
    data = [{"n": n} for n in range(5)]
    stream = FurtherPrompts(data, seed=3)
    whole = [row["n"] for row in stream.take(4) + stream.take(6)]
    assert sorted(whole[:5]) == sorted(whole[5:]) == [0, 1, 2, 3, 4] and whole[:5] != whole[5:]
    resumed = FurtherPrompts(data, seed=3)
    resumed.num_taken = 7
    assert [row["n"] for row in resumed.take(3)] == whole[7:]


def test_a_pass_is_permuted_once_and_in_the_order_of_numpy() -> None:
    data = [{"n": n} for n in range(7)]
    stream = FurtherPrompts(data, seed=3)
    first = [row["n"] for row in stream.take(3)]
    kept = stream._order
    first += [row["n"] for row in stream.take(4)]
    assert stream._order is kept
    assert first == np.random.default_rng([3, 0]).permutation(7).tolist()
    assert [row["n"] for row in stream.take(7)] == np.random.default_rng([3, 1]).permutation(7).tolist()


def only_even_prompts(completion_ids: list[list[int]], id: list[str], **_: Any) -> list[float]:
    """Give all completions of an odd prompt the same reward, and those of an even prompt different ones."""
    return [0.0 if int(name) % 2 else float(row) for row, name in enumerate(id)]


def dynamic(grpo: Callable[..., Grpo], max_rounds: int, **changes: Any) -> DynamicSampling:
    return grpo(
        trainer=DynamicSampling, extra={"max_rounds": max_rounds}, reward=only_even_prompts, **changes
    )


@pytest.mark.slow
def test_flat_groups_are_replaced_and_counted(grpo: Callable[..., Grpo]) -> None:
    trainer = dynamic(grpo, max_rounds=20, max_steps=1)
    trainer.model.train()
    inputs = list(next(iter(trainer.get_train_dataloader())))
    before = [row["id"] for row in inputs]
    batch = trainer._generate_and_score_completions(inputs)
    assert (batch["advantages"] != 0.0).all()
    prompts = trainer.processing_class.batch_decode(batch["prompt_ids"], skip_special_tokens=True)
    for place, name in enumerate(before):  # groups that were not flat keep their place
        assert (f"What is {name} +" in prompts[place]) is (int(name) % 2 == 0)
    assert batch["num_items_in_batch"] == batch["completion_mask"].sum()
    metrics = trainer._metrics["train"]
    assert metrics["dynamic_sampling/flat_completions"] == [0]
    assert metrics["dynamic_sampling/discarded_completions"] == [2 * trainer._further.num_taken]
    assert len(metrics["reward"]) == 1  # of the first round only


@pytest.mark.slow
def test_replacements_keep_their_tokens_and_masks(grpo: Callable[..., Grpo]) -> None:
    trainer = dynamic(grpo, max_rounds=20, num_iterations=2, beta=0.1)
    trainer.model.train()
    batch = trainer._generate_and_score_completions(list(next(iter(trainer.get_train_dataloader()))))
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    width = batch["completion_ids"].size(1)
    logps, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width)
    kept = batch["completion_mask"].bool()
    torch.testing.assert_close(batch["old_per_token_logps"][kept], logps[kept], atol=1e-5, rtol=0.0)
    torch.testing.assert_close(batch["ref_per_token_logps"][kept], logps[kept], atol=1e-5, rtol=0.0)


@pytest.mark.slow
def test_groups_still_flat_after_the_last_round_stay_and_are_counted(grpo: Callable[..., Grpo]) -> None:
    trainer = dynamic(grpo, max_rounds=2, max_steps=1)
    trainer.reward_funcs = [lambda completion_ids, **_: [1.0] * len(completion_ids)]
    trainer.train()
    row = trainer.state.log_history[0]
    assert row["dynamic_sampling/flat_completions"] == 8
    assert row["dynamic_sampling/discarded_completions"] == 16
    assert row["dynamic_sampling/rounds"] == 2


@pytest.mark.slow
def test_resumed_dynamic_sampling_uses_the_same_prompts(
    grpo: Callable[..., Grpo], weights: Callable[..., torch.Tensor], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"max_rounds": 5, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = dynamic(grpo, **settings)
    whole.train()
    resumed = dynamic(grpo, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoints" / "checkpoint-2"))
    assert torch.equal(weights(resumed.model), weights(whole.model))
