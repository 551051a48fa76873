import math

import numpy as np
import pytest
import torch

from r1exp.algorithm.ppo_loss import explained_variance, token_rewards, value_losses

MASK = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]])


def test_the_score_is_added_at_the_last_token_and_the_penalty_at_each() -> None:
    ratio = torch.tensor([[0.5, -1.0, 2.0], [1.0, 7.0, 7.0], [7.0, 7.0, 7.0]], dtype=torch.float64)
    rewards = token_rewards(torch.tensor([2.0, -1.0, 5.0]), ratio, MASK, beta=0.1)
    expected = [[-0.05, 0.1, 2.0 - 0.2], [-1.0 - 0.1, 0.0, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(rewards.numpy(), expected, atol=1e-12)


def test_the_penalties_of_a_completion_add_up_to_its_log_ratio() -> None:
    ratio = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rewards = token_rewards(torch.zeros(4), ratio, torch.ones(4, 6), beta=0.3)
    np.testing.assert_allclose(rewards.sum(1).numpy(), -0.3 * ratio.sum(1).numpy(), atol=1e-12)


@pytest.mark.parametrize(
    ("value", "old", "target", "expected", "clipped"),
    [
        pytest.param(1.0, 0.9, 3.0, 0.5 * 4.0, 0.0, id="inside the range: plain error"),
        pytest.param(2.0, 0.0, 3.0, 0.5 * 2.8**2, 1.0, id="too far toward the return: clipped error"),
        pytest.param(2.0, 0.0, -1.0, 0.5 * 9.0, 0.0, id="too far away from the return: plain error"),
    ],
)
def test_value_loss_computed_by_hand(
    value: float, old: float, target: float, expected: float, clipped: float
) -> None:
    values, olds, targets = (torch.tensor([[number]]) for number in (value, old, target))
    loss, was_clipped = value_losses(values, olds, targets, clip=0.2)
    assert loss.item() == pytest.approx(expected)
    assert was_clipped.item() == clipped


def test_value_loss_equals_numpy_on_a_batch() -> None:
    values, old, returns = np.random.default_rng(1).normal(size=(3, 4, 5))
    loss, _ = value_losses(torch.tensor(values), torch.tensor(old), torch.tensor(returns), clip=0.3)
    near = np.minimum(np.maximum(values, old - 0.3), old + 0.3)
    expected = 0.5 * np.maximum((values - returns) ** 2, (near - returns) ** 2)
    np.testing.assert_allclose(loss.numpy(), expected, atol=1e-12)


def test_without_a_clip_the_value_loss_is_half_the_squared_error() -> None:
    loss, was_clipped = value_losses(
        torch.tensor([[5.0]]), torch.tensor([[0.0]]), torch.tensor([[1.0]]), clip=None
    )
    assert (loss.item(), was_clipped.item()) == (8.0, 0.0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([1.0, 2.0, 6.0], 1.0, id="perfect"),
        pytest.param([3.0, 3.0, 3.0], 0.0, id="constant"),
        pytest.param([6.0, 2.0, 1.0], 1.0 - 50.0 / 14.0, id="worse than a constant"),
    ],
)
def test_explained_variance_computed_by_hand(values: list[float], expected: float) -> None:
    # Returns 1, 2, 6: mean 3, squares 4 + 1 + 9 = 14. The fourth column is padding.
    returns, mask = torch.tensor([[1.0, 2.0, 6.0, 99.0]]), torch.tensor([[1, 1, 1, 0]])
    measured = explained_variance(torch.tensor([[*values, -99.0]]), returns, mask)
    assert measured == pytest.approx(expected, abs=1e-6)


def test_without_a_penalty_an_infinite_log_ratio_changes_no_reward() -> None:
    ratio, mask = torch.tensor([[math.inf, 1.0, math.nan]]), torch.tensor([[1, 1, 0]])
    assert token_rewards(torch.tensor([2.0]), ratio, mask, beta=0.0).tolist() == [[0.0, 2.0, 0.0]]


def test_explained_variance_of_constant_returns_is_none() -> None:
    assert explained_variance(torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1, 2)) is None
