"""Settings of GRPO and of the algorithms that are GRPO with other trainer arguments.

Source: Group Relative Policy Optimization (arXiv:2402.03300), on TRL's GRPOTrainer.
"""

from pydantic import NonNegativeInt

from r1exp.algorithm.base import OnlineAlgorithm


class Grpo(OnlineAlgorithm):
    """Group Relative Policy Optimization; `dr_grpo`, `dapo` and `gspo` differ in their recipes only."""

    resampling_rounds: NonNegativeInt  # how often prompts whose rewards are all equal are replaced; 0: never

    @property
    def trainer(self) -> str:
        """The trainer that resamples, where that is wanted."""
        if self.resampling_rounds:
            return "r1exp.algorithm.dynamic_sampling:DynamicSampling"
        return "r1exp.algorithm.trainers:Grpo"
