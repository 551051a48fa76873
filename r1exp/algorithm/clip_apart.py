"""Clips the gradients of policy and critic apart, each to `trainer.max_grad_norm`.

With one norm over both, the critic's gradient also shortens the steps of the policy: of 120 updates of the quickstart's PPO (two
seeds) 68 % were clipped, and 28 % with the policy's own norm.

On one process and with DDP there are two calls of `clip_grad_norm_`. DeepSpeed 0.19 clips inside the engine's optimizer, group
by group, with a norm over all groups; `Engine` replaces that norm by the one of the group's own part, for ZeRO-1, 2 and 3.
"""

import math
from typing import Any

from torch import Tensor


class Engine:
    """Makes the optimizer of DeepSpeed clip two parts apart. Written against DeepSpeed 0.19.

    Args:
        optimizer: `DeepSpeedZeroOptimizer` (ZeRO-1 and 2) or `DeepSpeedZeroOptimizer_Stage3`.
        mark: Key of the parameter groups that are clipped apart from the others.
    """

    def __init__(self, optimizer: Any, mark: str) -> None:
        self._optimizer = optimizer
        self._is_stage_3 = hasattr(optimizer, "sub_group_to_group_id")
        marked = [bool(group.get(mark)) for group in optimizer.optimizer.param_groups]
        self._is_marked = (
            [marked[optimizer.sub_group_to_group_id[index]] for index in range(len(optimizer.fp16_groups))]
            if self._is_stage_3
            else marked
        )
        self._norms: list[Tensor] = []  # of the groups, in order, of the optimizer step that is being made
        self._scale = 1.0  # of the loss, when the norms were taken
        for name in ("get_grad_norm_direct", "complete_grad_norm_calculation_for_cpu_offload"):
            setattr(optimizer, name, self._recording(getattr(optimizer, name)))
        self._theirs = optimizer.unscale_and_clip_grads
        optimizer.unscale_and_clip_grads = self._unscale_and_clip

    def norm(self, *, is_marked: bool) -> float:
        """Return the norm of one part of the gradient in the last optimizer step, before it was clipped."""
        parts = [
            float(norm) for norm, mark in zip(self._norms, self._is_marked, strict=True) if mark is is_marked
        ]
        if any(part < 0 for part in parts):  # DeepSpeed's mark of a norm that is not finite
            return math.inf
        return math.hypot(*parts) / self._scale

    def _recording(self, measure: Any) -> Any:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            if len(self._norms) == len(self._is_marked):
                self._norms.clear()
            norm = measure(*args, **kwargs)
            self._norms.append(norm)
            return norm

        return recorded

    def _unscale_and_clip(self, group: Any, total: Any) -> Any:
        self._scale = float(self._optimizer.loss_scale)
        mark = self._is_marked[self._index(group)]
        own = self.norm(is_marked=mark) * self._scale
        return self._theirs(group, total.new_tensor(own))

    def _index(self, group: Any) -> int:
        """Return the index of a group; ZeRO-1 and 2 pass its gradient, ZeRO-3 the index itself."""
        if self._is_stage_3:
            return int(group)
        partitions = self._optimizer.single_partition_of_fp32_groups
        return next(index for index, partition in enumerate(partitions) if partition.grad is group[0])
