"""On-policy distillation on TRL's DistillationTrainer, with exact resume and guards.

    loss = mean over the student's tokens of D(teacher(. | prefix), student(. | prefix))

The prefixes are answers that the student samples. D is the generalized Jensen-Shannon divergence with coefficient beta; 1 is the
reverse KL. Source: GKD, eq. 3 and 5 (arXiv:2306.13649), of which this is the purely on-policy case.
"""

from contextlib import AbstractContextManager
from typing import Any

from trl import DistillationTrainer

from r1exp.algorithm.guards import Guards
from r1exp.algorithm.resume import RepeatedPrompts


class Distil(Guards, RepeatedPrompts, DistillationTrainer):
    """On-policy distillation."""

    def passes_per_generation(self) -> int:
        """Return the passes of one optimizer step, for which TRL 1.16 samples together."""
        return int(self.args.gradient_accumulation_steps)

    def autocast_smart_context_manager(
        self, cache_enabled: bool | None = True
    ) -> AbstractContextManager[Any]:
        """Return the context of the loss: mixed precision, if it is on.

        TRL 1.16 calls backbones and output weights itself, past the `forward` that accelerate has wrapped in it.
        """
        del cache_enabled
        return self.accelerator.autocast()
