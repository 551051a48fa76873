"""TRL's trainers with what every trainer of ours has: guards, exact resume, a KL that is controlled, and what vLLM said.

With the same arguments and a fixed `beta` the weights are bit for bit those of the bare trainer
(tests/algorithm/test_parity.py).
"""

from trl import DPOTrainer, GRPOTrainer, RewardTrainer, RLOOTrainer, SFTTrainer

from r1exp.algorithm.guards import Guards
from r1exp.algorithm.kl_trainer import KlControl
from r1exp.algorithm.resume import ExactResume, RepeatedPrompts
from r1exp.algorithm.sampler import SamplerLogprobs


class Sft(ExactResume, Guards, SFTTrainer):
    """Supervised fine-tuning."""


class Dpo(ExactResume, Guards, DPOTrainer):
    """Direct preference optimization (arXiv:2305.18290)."""


class RewardModelling(ExactResume, Guards, RewardTrainer):
    """A Bradley-Terry reward model (arXiv:2203.02155, eq. 1)."""


class Grpo(KlControl, SamplerLogprobs, RepeatedPrompts, Guards, GRPOTrainer):
    """Group relative policy optimization (arXiv:2402.03300) and the losses that are its relatives."""


class Rloo(KlControl, SamplerLogprobs, RepeatedPrompts, Guards, RLOOTrainer):
    """REINFORCE with a leave-one-out baseline (arXiv:2402.14740)."""
