"""Passes that are trimmed to their longest row learn what padded ones do, to the last digits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from r1exp.algorithm.short_passes import shares_of_tokens, sorted_by_length, trimmed
from r1exp.algorithm.trainers import Grpo


def test_only_columns_that_are_padding_in_every_row_are_cut() -> None:
    prompt = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]])
    completion = torch.tensor([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    inputs: dict[str, Any] = {
        "prompt_ids": prompt * 7, "prompt_mask": prompt, "completion_ids": completion * 5, "completion_mask": completion,
        "old_per_token_logps": completion * 0.5, "advantages": torch.tensor([1.0, -1.0]), "num_items_in_batch": 3,
    }  # fmt: skip
    short = trimmed(inputs)
    assert short["prompt_ids"].tolist() == [[0, 7, 7], [7, 7, 7]]
    assert short["completion_ids"].tolist() == [[5, 5], [5, 0]]
    assert short["old_per_token_logps"].shape == (2, 2)
    assert (short["advantages"], short["num_items_in_batch"]) == (inputs["advantages"], 3)
    assert short["completion_mask"].dtype == completion.dtype
    nothing = trimmed({**inputs, "completion_mask": torch.zeros_like(completion)})
    assert nothing["completion_ids"].shape == (2, 1)


def test_rows_are_sorted_within_an_optimizer_step_with_all_that_belongs_to_them() -> None:
    lengths = [
        [3, 1],
        [2, 4],
        [5, 1],
        [4, 2],
    ]  # of four passes of two rows; two passes make an optimizer step
    passes = [
        {
            "prompt_mask": torch.ones(2, 1),
            "completion_mask": torch.tensor(
                [[float(place < number) for place in range(5)] for number in rows]
            ),
            "advantages": torch.tensor(rows) * 10,
            "names": [f"{number}" for number in rows],
            "num_items_in_batch": torch.tensor(22),
        }
        for rows in lengths
    ]
    found = sorted_by_length(passes, 2)
    assert [each["advantages"].tolist() for each in found] == [[10, 20], [30, 40], [10, 20], [40, 50]]
    assert [each["names"] for each in found] == [["1", "2"], ["3", "4"], ["1", "2"], ["4", "5"]]
    assert [each["completion_mask"].sum(dim=1).tolist() for each in found][1] == [3, 4]
    assert {int(each["num_items_in_batch"]) for each in found} == {22}


def test_a_pass_counts_by_its_tokens() -> None:
    tokens = torch.tensor([1, 3, 4, 0, 0, 0])  # of six passes; two make an optimizer step
    assert shares_of_tokens(tokens, 2) == [0.5, 1.5, 2.0, 0.0, 1.0, 1.0]


@pytest.mark.slow
def test_metrics_are_means_over_the_tokens_of_an_optimizer_step(
    grpo: Callable[..., Grpo], tokenizer: PreTrainedTokenizerBase
) -> None:
    ends = {"sequence_bias": [[[tokenizer.eos_token_id], 4.0]]}  # completions of a few tokens and of many
    found = {}
    for short, rows in (
        ("sorted", 2),
        (False, 8),
    ):  # four passes of different lengths, and all rows in one pass
        trainer = grpo(
            extra={"short_passes": short}, per_device_train_batch_size=rows, gradient_accumulation_steps=8 // rows,
            max_completion_length=24, beta=0.01, generation_kwargs=ends,
        )  # fmt: skip
        trainer.train()
        found[short] = [row for row in trainer.state.log_history if "entropy" in row]
        assert len(found[short]) == 3
    lengths = [(row["completions/min_length"], row["completions/max_length"]) for row in found["sorted"]]
    assert any(longest > 2 * shortest for shortest, longest in lengths)
    for ours, whole in zip(found["sorted"], found[False], strict=True):
        for name in ("entropy", "kl", "clip_ratio/region_mean"):
            assert ours[name] == pytest.approx(whole[name], rel=1e-4, abs=1e-7), name


@pytest.mark.slow
def test_a_trimmed_training_ends_with_the_same_weights(grpo: Callable[..., Grpo]) -> None:
    lengths: dict[bool | str, list[int]] = {"sorted": [], True: [], False: []}
    weights = {}
    for short in lengths:

        class Watched(Grpo):
            def _compute_loss(
                self, model: torch.nn.Module, inputs: dict, short: bool | str = short
            ) -> torch.Tensor:
                lengths[short].append(inputs["completion_ids"].size(1) + inputs["prompt_ids"].size(1))
                return super()._compute_loss(model, inputs)

        trainer = grpo(
            trainer=Watched, extra={"short_passes": short}, per_device_train_batch_size=2, gradient_accumulation_steps=4,
            max_completion_length=24, beta=0.01, optim="sgd",
        )  # fmt: skip
        trainer.train()
        weights[short] = torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])
    assert sum(lengths["sorted"]) < sum(lengths[True]) < sum(lengths[False])
    assert torch.allclose(weights[True], weights[False], atol=1e-5)
    assert torch.allclose(weights["sorted"], weights[False], atol=1e-5)
