"""Settings of GRPO, and of the algorithms that differ from it only in trainer arguments.

Source: Group Relative Policy Optimization (arXiv:2402.03300), on TRL's GRPOTrainer.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, NonNegativeInt

from r1exp.algorithm.base import OnlineAlgorithm


class Grpo(OnlineAlgorithm):
    """Group Relative Policy Optimization; `dr_grpo`, `dapo`, `gspo`, `cispo` and `sapo` differ only in conf/algorithm/."""

    # Rounds in which prompts whose completions all received the same reward are replaced by others; 0: none.
    resampling_rounds: NonNegativeInt
    # Trim the rows of each pass to the longest of them, and sort the rows of an optimizer step by length before: faster, and
    # other last digits. In no key where it is false.
    short_passes: bool | Literal["sorted"] = Field(default=False, exclude_if=lambda value: not value)

    # Optimizer steps for which a problem rests whose completions all got the same score; 0: none rests. In no key where it is 0.
    rest_steps: NonNegativeInt = Field(default=0, exclude_if=lambda value: not value)

    applies_advantages = True

    @property
    def corrects_staleness(self) -> bool:
        """Whether it can train on completions of older weights."""
        return (
            self.resampling_rounds == 0 and self.rest_steps == 0
        )  # they choose prompts when those before are scored

    @property
    def resting_steps(self) -> int:
        """Optimizer steps for which a problem rests that is solved always or never."""
        return self.rest_steps

    @property
    def trims_passes(self) -> bool:
        """Whether the rows of each pass are trimmed to the longest of them."""
        return bool(self.short_passes)

    @property
    def sorts_passes(self) -> bool:
        """Whether the rows of an optimizer step are sorted by length before they are cut into passes."""
        return self.short_passes == "sorted"

    def check(self, beta: float | None, trainer: Mapping[str, Any]) -> None:
        """Raise ValueError also where sorted passes would change what is learnt, not its last digits only."""
        super().check(beta, trainer)
        if self.sorts_passes and trainer.get("loss_type") == "bnpo":
            raise ValueError(
                "algorithm.short_passes=sorted with trainer.loss_type=bnpo: this loss is a mean over the tokens of a pass, so "
                "that it matters which rows are in it; use algorithm.short_passes=true, or another loss"
            )

    @property
    def trainer(self) -> str:
        """Import path of the trainer, which depends on whether prompts are resampled."""
        if self.resampling_rounds:
            return "r1exp.algorithm.dynamic_sampling:DynamicSampling"
        return "r1exp.algorithm.trainers:Grpo"
