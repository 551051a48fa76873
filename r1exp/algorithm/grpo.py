"""Settings of GRPO, and of the algorithms that differ from it only in trainer arguments.

Source: Group Relative Policy Optimization (arXiv:2402.03300), on TRL's GRPOTrainer.
"""

from pydantic import NonNegativeInt

from r1exp.algorithm.base import OnlineAlgorithm


class Grpo(OnlineAlgorithm):
    """Group Relative Policy Optimization; `dr_grpo`, `dapo` and `gspo` differ only in conf/algorithm/."""

    # Rounds in which prompts whose completions all received the same reward are replaced by others; 0: none.
    resampling_rounds: NonNegativeInt

    applies_advantages = True

    @property
    def corrects_staleness(self) -> bool:
        """Whether it can train on completions of older weights."""
        return self.resampling_rounds == 0  # further rounds are sampled when they are needed

    @property
    def trainer(self) -> str:
        """Import path of the trainer, which depends on whether prompts are resampled."""
        if self.resampling_rounds:
            return "r1exp.algorithm.dynamic_sampling:DynamicSampling"
        return "r1exp.algorithm.trainers:Grpo"
