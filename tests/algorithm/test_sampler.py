"""The gap between what vLLM said of its tokens and what the trainer says, by hand and without vLLM."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from r1exp.algorithm.sampler import GAP, SamplerLogprobs, _of_drawn_tokens
from r1exp.rewards.adapter import LOGPROBS_COLUMN


def trainer(ours: list[list[float]], said: list[list[float]] | None, **arguments: Any) -> Any:
    """A trainer whose policy gives `ours` to the tokens that vLLM drew with `said`."""
    made: Any = SamplerLogprobs.__new__(SamplerLogprobs)
    made._sampled_logps = said
    made.args = SimpleNamespace(**{"top_p": 1.0, "top_k": 0} | arguments)
    made.accelerator = SimpleNamespace(reduce=lambda numbers, reduction: numbers)
    made.policy_logps = lambda batch: torch.tensor(ours)
    return made


def test_the_gap_is_the_mean_difference_over_the_tokens_that_count() -> None:
    made = trainer([[-1.0, -2.0, -9.0], [-0.5, -0.25, -0.125]], [[-1.5, -2.0], [-0.5, -0.5, -0.125]])
    batch = {"completion_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])}
    assert made._gap(batch, made._sampled_logps) == pytest.approx((0.5 + 0.25) / 5)


def test_a_token_that_vllm_could_not_score_does_not_count() -> None:
    made = trainer([[-1.0, -2.0]], [[-1.5, math.nan]])
    assert made._gap({"completion_mask": torch.ones(1, 2)}, made._sampled_logps) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("arguments", "corrected", "compares"),
    [
        pytest.param({}, False, True, id="nobody else looks"),
        pytest.param({}, True, False, id="TRL looks itself"),
        pytest.param({"top_p": 0.9}, False, False, id="vLLM speaks of the nucleus only"),
        pytest.param({"top_k": 5}, False, False, id="vLLM speaks of five tokens only"),
    ],
)
def test_the_gap_is_worked_out_where_it_means_something(
    arguments: dict[str, Any], corrected: bool, compares: bool
) -> None:
    made = trainer([], [], **arguments)
    made.vllm_importance_sampling_correction = corrected
    assert made._can_compare() is compares


def test_the_drawn_token_comes_first_and_what_is_missing_is_nan() -> None:
    assert _of_drawn_tokens(None) is None
    first, second = _of_drawn_tokens([[[-0.5, -3.0], [-0.25]], [[None]]])  # type: ignore[misc]
    assert first == [-0.5, -0.25]
    assert math.isnan(second[0])


def test_a_reward_reads_what_vllm_said_and_null_where_it_said_too_little(grpo: Callable[..., Any]) -> None:
    seen: list[Any] = []

    def reward(completion_ids: list[list[int]], **columns: Any) -> list[float]:
        seen.append(columns.get(LOGPROBS_COLUMN))
        return [0.0] * len(completion_ids)

    built = grpo(reward=reward)
    built._sampled_logps = [[-0.5], [math.nan]]
    rows = [{"prompt": "a", "id": "1"}, {"prompt": "a", "id": "1"}]
    built._calculate_rewards(rows, ["a", "a"], ["x", "y"], [[1], [2]])
    assert seen == [[[-0.5], None]]


def test_without_vllm_nothing_is_said(grpo: Callable[..., Any]) -> None:
    built = grpo(max_steps=1)
    built.train()
    assert not [row for row in built.state.log_history if GAP in row]
