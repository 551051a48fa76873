"""Tests of the gap between the log-probabilities of vLLM and of the trainer, computed by hand without vLLM."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from r1exp.algorithm.sampler import GAP, SamplerLogprobs, _of_sampled_tokens
from r1exp.rewards.adapter import LOGPROBS_COLUMN


def trainer(ours: list[list[float]], sampled: list[list[float]] | None, **arguments: Any) -> Any:
    """Return a trainer whose policy has log-probabilities `ours` for tokens that vLLM sampled with `sampled`."""
    made = SamplerLogprobs.__new__(SamplerLogprobs)
    made._sampled_logps = sampled
    made.args = SimpleNamespace(**{"top_p": 1.0, "top_k": 0} | arguments)
    made.accelerator = SimpleNamespace(reduce=lambda numbers, reduction: numbers)
    made.policy_logps = lambda batch: torch.tensor(ours)  # type: ignore[method-assign]
    return made


def test_the_gap_is_the_mean_difference_over_the_tokens_that_count() -> None:
    made = trainer([[-1.0, -2.0, -9.0], [-0.5, -0.25, -0.125]], [[-1.5, -2.0], [-0.5, -0.5, -0.125]])
    batch = {"completion_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])}
    assert made._gap(batch, made._sampled_logps) == pytest.approx((0.5 + 0.25) / 5)


def test_a_token_without_a_log_probability_of_vllm_is_skipped() -> None:
    made = trainer([[-1.0, -2.0]], [[-1.5, math.nan]])
    assert made._gap({"completion_mask": torch.ones(1, 2)}, made._sampled_logps) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("arguments", "corrected", "compares"),
    [
        pytest.param({}, False, True, id="TRL does not log it"),
        pytest.param({}, True, False, id="TRL logs it"),
        pytest.param({"top_p": 0.9}, False, False, id="vLLM normalizes over the nucleus"),
        pytest.param({"top_k": 5}, False, False, id="vLLM normalizes over five tokens"),
    ],
)
def test_the_gap_is_computed_if_comparable_and_not_logged_by_trl(
    arguments: dict[str, Any], corrected: bool, compares: bool
) -> None:
    made = trainer([], [], **arguments)
    made.vllm_importance_sampling_correction = corrected
    assert made._can_compare() is compares


def test_the_sampled_token_comes_first_and_missing_values_are_nan() -> None:
    assert _of_sampled_tokens(None) is None
    first, second = _of_sampled_tokens([[[-0.5, -3.0], [-0.25]], [[None]]])  # type: ignore[misc]
    assert first == [-0.5, -0.25]
    assert math.isnan(second[0])


def test_a_reward_reads_vllms_log_probabilities_or_null_if_some_are_missing(grpo: Callable[..., Any]) -> None:
    seen: list[Any] = []

    def reward(completion_ids: list[list[int]], **columns: Any) -> list[float]:
        seen.append(columns.get(LOGPROBS_COLUMN))
        return [0.0] * len(completion_ids)

    built = grpo(reward=reward)
    built._sampled_logps = [[-0.5], [math.nan]]
    rows = [{"prompt": "a", "id": "1"}, {"prompt": "a", "id": "1"}]
    built._calculate_rewards(rows, ["a", "a"], ["x", "y"], [[1], [2]])
    assert seen == [[[-0.5], None]]


def test_without_vllm_no_gap_is_logged(grpo: Callable[..., Any]) -> None:
    built = grpo(max_steps=1)
    built.train()
    assert not [row for row in built.state.log_history if GAP in row]
