"""The advantages of REINFORCE++ with a baseline."""

import torch

from r1exp.algorithm.advantages import centered_then_whitened


def test_the_groups_mean_is_subtracted_and_the_batch_normalizes() -> None:
    advantages = centered_then_whitened(torch.tensor([1.0, 0.0, 3.0, 1.0]), 2)
    centered = torch.tensor([0.5, -0.5, 1.0, -1.0])
    torch.testing.assert_close(advantages, centered / (2.5 / 4) ** 0.5)


def test_equal_rewards_of_a_group_give_exactly_0() -> None:
    advantages = centered_then_whitened(torch.tensor([0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 1.0, 0.0]), 2)
    assert advantages[:6].tolist() == [0.0] * 6
    assert advantages[6].item() == -advantages[7].item() != 0.0


def test_a_completion_without_a_reward_does_not_count() -> None:
    advantages = centered_then_whitened(torch.tensor([1.0, 0.0, float("nan"), 5.0]), 2)
    torch.testing.assert_close(advantages, torch.tensor([0.5, -0.5, 0.0, 0.0]) / (0.5 / 3) ** 0.5)
