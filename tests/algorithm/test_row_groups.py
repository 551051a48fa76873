"""A pass that is cut into groups of rows without padding gives what one padded pass gives."""

from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import pytest
import torch

from r1exp.algorithm.ppo_trainer import Ppo
from r1exp.algorithm.row_groups import RowGroups
from r1exp.algorithm.trainers import Grpo


def cost(groups: list[list[int]], lengths: list[int], overhead: int) -> int:
    return sum(len(rows) * max(lengths[row] for row in rows) + overhead for rows in groups)


@pytest.mark.parametrize("overhead", [0, 3, 7, 1000])
def test_rows_are_cut_where_it_costs_least(overhead: int) -> None:
    lengths = [5, 1, 9, 2, 8, 2]
    groups = RowGroups(most_rows=6, overhead=overhead).cut(lengths)
    assert sorted(row for rows in groups for row in rows) == list(range(6))
    order = sorted(range(6), key=lambda row: lengths[row])
    every = []
    for cuts in product([False, True], repeat=5):
        places = [0, *[place + 1 for place, is_cut in enumerate(cuts) if is_cut], 6]
        every.append(cost([order[start:end] for start, end in pairwise(places)], lengths, overhead))
    assert cost(groups, lengths, overhead) == min(every)


def test_no_group_has_more_rows_than_a_pass_may_have() -> None:
    assert [len(rows) for rows in RowGroups(2, 1000).cut([3, 3, 3, 3, 3])] in (
        [2, 2, 1],
        [2, 1, 2],
        [1, 2, 2],
    )
    assert [len(rows) for rows in RowGroups(2, 1000, are_even=True).cut([9, 1, 1, 1, 1])] == [2, 2, 1]


@pytest.mark.slow
def test_a_cut_pass_gives_the_numbers_of_a_padded_one(ppo: Callable[..., Ppo]) -> None:
    found: dict[Any, list[torch.Tensor]] = {}
    for kind, critic in product((False, "sorted"), ("separate", "shared")):
        torch.manual_seed(0)
        trainer = ppo(critic, short_passes=kind)
        head = trainer._critic.head  # type: ignore[union-attr]  # it has one
        torch.nn.init.normal_(head.weight)
        torch.nn.init.normal_(head.bias)
        ids = torch.randint(5, 200, (6, 14), generator=torch.Generator().manual_seed(1))
        mask = torch.ones_like(ids)
        for row, (left, right) in enumerate([(0, 0), (2, 3), (4, 0), (1, 6), (0, 5), (3, 1)]):
            mask[row, :left] = 0
            mask[row, 14 - right :] = 0
        mask[5, 8:] = 0  # a completion that is left out
        logps, entropies, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, 6, compute_entropy=True
        )
        values = trainer._seen[-1]
        is_token = mask[:, 8:] == 1
        total = (logps * is_token).sum() + (entropies * values * is_token).sum()
        total.backward()
        gradients = [
            weight.grad.flatten() for weight in trainer.model.parameters() if weight.grad is not None
        ]
        found[kind, critic] = [logps[is_token], entropies[is_token], values[is_token], torch.cat(gradients)]
    for critic in ("separate", "shared"):
        for ours, plain in zip(found["sorted", critic], found[False, critic], strict=True):
            torch.testing.assert_close(ours, plain, atol=2e-4, rtol=1e-4)
            assert ours.abs().sum() > 0


@pytest.mark.slow
def test_scoring_passes_of_grpo_have_no_padding(grpo: Callable[..., Grpo]) -> None:
    widths: dict[Any, list[int]] = {True: [], "sorted": []}
    found = {}
    for short in widths:
        trainer = grpo(
            extra={"short_passes": short}, per_device_train_batch_size=2, gradient_accumulation_steps=4,
            max_completion_length=24, beta=0.01,
        )  # fmt: skip
        trainer.ref_model.base_model.register_forward_pre_hook(
            lambda module, args, kwargs, short=short: widths[short].append(kwargs["input_ids"].numel()),
            with_kwargs=True,
        )
        trainer.train()
        found[short] = [row["kl"] for row in trainer.state.log_history if "kl" in row]
    assert sum(widths["sorted"]) < sum(widths[True])
    assert found["sorted"] == pytest.approx(found[True], rel=1e-2, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_ppo_ends_with_the_same_weights_with_its_short_passes_and_without(
    ppo: Callable[..., Ppo], weights: Callable[..., torch.Tensor], critic: str
) -> None:
    found = {}
    for is_short in (True, False):
        trainer = ppo(
            critic, short_passes="sorted" if is_short else False, sampled_logps=is_short, optim="sgd", max_steps=6,
            max_completion_length=16, temperature=1.5,
        )  # fmt: skip
        start = weights(trainer.model).clone()
        trainer.train()
        found[is_short] = weights(trainer.model)
        assert (found[is_short] - start).abs().max() > 1e-3
    torch.testing.assert_close(found[True], found[False], atol=1e-5, rtol=0.0)
