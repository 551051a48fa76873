"""Subclasses of TRL's trainers with guards, exact resume, KL control, and logged sampler log-probabilities.

With the same arguments, a fixed `beta` and `short_passes` false the trained weights equal those of TRL's trainer bit for bit
(tests/algorithm/test_parity.py); with sorted passes they do up to rounding.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from peft import LoraConfig
from transformers import PreTrainedTokenizerBase
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    RewardTrainer,
    RLOOConfig,
    RLOOTrainer,
)

from r1exp.algorithm.advantages import ExactlyFlat, OwnAdvantages
from r1exp.algorithm.guards import Guards
from r1exp.algorithm.kl_trainer import KlControl
from r1exp.algorithm.learned_turns import LearnedTurns
from r1exp.algorithm.resting import Resting
from r1exp.algorithm.resume import ExactResume, RepeatedPrompts
from r1exp.algorithm.sample_ahead import SampleAhead
from r1exp.algorithm.sampled_logps import SampledLogps
from r1exp.algorithm.sampler import SamplerLogprobs
from r1exp.algorithm.seeded_batches import SeededBatches
from r1exp.algorithm.sharded import WholeSampling
from r1exp.algorithm.short_passes import ShortPasses
from r1exp.algorithm.weight_sync import UntouchedBase
from r1exp.algorithm.whole_steps import WholeSteps


@dataclass(frozen=True)
class Policy:
    """The model that is trained."""

    path: str  # folder or hub id
    revision: str | None  # of a hub id; None: its main branch
    tokenizer: PreTrainedTokenizerBase
    trusts_code: bool = False  # whether the code of its repository may run
    lora: LoraConfig | None = None  # adapters that are trained instead of its weights


class Sft(WholeSteps, Guards, ExactResume, LearnedTurns):
    """Supervised fine-tuning."""


class RewardModelling(WholeSteps, Guards, ExactResume, RewardTrainer):
    """A Bradley-Terry reward model (arXiv:2203.02155, eq. 1)."""


class Dpo(WholeSteps, Guards, ExactResume, DPOTrainer):
    """Direct preference optimization (arXiv:2305.18290)."""

    config: ClassVar[type] = DPOConfig

    @classmethod
    def own_arguments(cls, algorithm: Any, policy: Policy) -> dict[str, Any]:
        """Return the trainer's arguments that follow from the settings of the algorithm."""
        del algorithm, policy
        return {}


class Rloo(
    ExactlyFlat,
    KlControl,
    SamplerLogprobs,
    UntouchedBase,
    WholeSampling,
    Guards,
    SeededBatches,
    RepeatedPrompts,
    RLOOTrainer,
):
    """REINFORCE with a leave-one-out baseline (arXiv:2402.14740)."""

    judges_loss = False  # it lies around 0
    config: ClassVar[type] = RLOOConfig

    @classmethod
    def own_arguments(cls, algorithm: Any, policy: Policy) -> dict[str, Any]:
        """Return the trainer's arguments that follow from the settings of the algorithm."""
        del algorithm, policy
        return {}


class Grpo(
    ShortPasses,
    SampledLogps,
    Resting,
    OwnAdvantages,
    SampleAhead,
    KlControl,
    SamplerLogprobs,
    UntouchedBase,
    WholeSampling,
    Guards,
    SeededBatches,
    RepeatedPrompts,
    GRPOTrainer,
):
    """Group relative policy optimization (arXiv:2402.03300), and its variants with another loss."""

    judges_loss = False  # it lies around 0
    config: ClassVar[type] = GRPOConfig

    @classmethod
    def own_arguments(cls, algorithm: Any, policy: Policy) -> dict[str, Any]:
        """Return the trainer's arguments that follow from the settings of the algorithm."""
        del policy
        return {
            "advantages": algorithm.advantages,
            "short_passes": algorithm.short_passes,
            "sampled_logps": algorithm.sampled_logps,
        }
