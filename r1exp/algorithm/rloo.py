"""Settings of REINFORCE leave-one-out.

Source: arXiv:2402.14740, on TRL's RLOOTrainer.
"""

from typing import Literal

from r1exp.algorithm.base import OnlineAlgorithm


class Rloo(OnlineAlgorithm):
    """REINFORCE leave-one-out."""

    kind: Literal["rloo"]

    trainer_config = "RLOOConfig"

    @property
    def trainer(self) -> str:
        """Import path of the trainer."""
        return "r1exp.algorithm.trainers:Rloo"
