"""DeepSpeed's optimizer clips two parts apart; the engines themselves are compared with DDP in test_matrix.py."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from r1exp.algorithm.clip_apart import Engine


class Stage2:
    """What `Engine` reads and calls of DeepSpeedZeroOptimizer: two groups, and one clip."""

    loss_scale = 2.0
    clip_grad = 1.0

    def __init__(self, gradients: list[torch.Tensor]) -> None:
        self.optimizer = SimpleNamespace(param_groups=[{"params": []}, {"params": [], "critic": True}])
        self.single_partition_of_fp32_groups = [torch.zeros_like(gradient) for gradient in gradients]
        for partition, gradient in zip(self.single_partition_of_fp32_groups, gradients, strict=True):
            partition.grad = gradient

    def get_grad_norm_direct(self, gradients: torch.Tensor) -> torch.Tensor:
        return gradients.norm()

    def complete_grad_norm_calculation_for_cpu_offload(self, gradients: torch.Tensor) -> torch.Tensor:
        return gradients.norm()

    def unscale_and_clip_grads(self, groups: list[torch.Tensor], total: torch.Tensor) -> None:
        clip = torch.clamp(total / self.loss_scale / self.clip_grad, min=1.0)
        for gradient in groups:
            gradient.mul_(1.0 / (clip * self.loss_scale))

    def step(self) -> Any:
        gradients = [partition.grad for partition in self.single_partition_of_fp32_groups]
        norms = [self.get_grad_norm_direct(gradient) for gradient in gradients if gradient is not None]
        for gradient in gradients:
            self.unscale_and_clip_grads([gradient], torch.stack(norms).norm())  # type: ignore[list-item]  # not None
        return gradients


def test_each_part_is_clipped_by_its_own_norm_also_with_a_scaled_loss() -> None:
    optimizer = Stage2([torch.tensor([0.6, 0.8]), torch.tensor([60.0, 80.0])])  # of a loss that was doubled
    engine = Engine(optimizer, "critic")
    policy, critic = optimizer.step()
    assert engine.norm(is_marked=False) == pytest.approx(0.5)
    assert engine.norm(is_marked=True) == pytest.approx(50.0)
    assert policy.norm() == pytest.approx(0.5)  # below the limit of 1: unscaled, not clipped
    assert critic.norm() == pytest.approx(1.0)
    optimizer.single_partition_of_fp32_groups[0].grad = torch.tensor([6.0, 8.0])
    optimizer.step()
    assert engine.norm(is_marked=False) == pytest.approx(5.0)  # of the last step only


def test_a_norm_that_is_not_finite_is_infinite() -> None:
    optimizer = Stage2([torch.ones(2), torch.ones(2)])
    optimizer.get_grad_norm_direct = lambda gradients: torch.tensor(-1.0)  # type: ignore[method-assign]  # DeepSpeed's mark
    engine = Engine(optimizer, "critic")
    optimizer.step()
    assert engine.norm(is_marked=True) == float("inf")
