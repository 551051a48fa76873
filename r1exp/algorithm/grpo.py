"""Settings of GRPO, and of the algorithms that differ from it only in trainer arguments.

Source: Group Relative Policy Optimization (arXiv:2402.03300), on TRL's GRPOTrainer.
"""

from pydantic import Field, NonNegativeInt

from r1exp.algorithm.base import OnGrpoTrainer


class Grpo(OnGrpoTrainer):
    """Group Relative Policy Optimization; `dr_grpo`, `dapo`, `gspo`, `cispo` and `sapo` differ only in conf/algorithm/."""

    # Rounds in which prompts whose completions all received the same reward are replaced by others; 0: none.
    resampling_rounds: NonNegativeInt
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
    def trainer(self) -> str:
        """Import path of the trainer, which depends on whether prompts are resampled."""
        if self.resampling_rounds:
            return "r1exp.algorithm.dynamic_sampling:DynamicSampling"
        return "r1exp.algorithm.trainers:Grpo"
