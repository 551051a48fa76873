"""Which algorithm updates the policy. conf/algorithm/*.yaml.

Fields that TRL knows stand under `trainer:` with TRL's names; here stand only the ones that are ours.
"""

from typing import Literal

from pydantic import PositiveInt

from r1exp.settings import Settings


class OnlineAlgorithm(Settings):
    """What every algorithm that samples from the policy knows."""

    prompts_per_step: PositiveInt  # prompts per optimiser step, over all ranks; batch sizes follow from it
    track_kl: bool  # keep a reference and log `kl` also where beta=0


class Grpo(OnlineAlgorithm):
    """Group Relative Policy Optimization (arXiv:2402.03300) and its relatives on TRL's GRPOTrainer."""

    kind: Literal["grpo"]


AlgorithmSettings = Grpo
