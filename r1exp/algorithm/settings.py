"""Which algorithm updates the policy. conf/algorithm/*.yaml.

Fields that TRL knows stand under `trainer:` with TRL's names; here stand only the ones that are ours.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from r1exp.algorithm.kl_controller import AdaptiveKl, FixedKl
from r1exp.settings import Name, Probability, Settings

_SAMPLING = frozenset({"rewards", "beta", "num_generations", "temperature"})


class Algorithm(Settings):
    """What the rest of the code asks of every algorithm."""

    kind: str

    knobs: ClassVar[frozenset[str]]  # top-level settings that only some algorithms read, and this one does
    trainer_class: ClassVar[str]  # the TRL dataclass that receives `trainer:`
    least_generations: ClassVar[int] = 2  # completions per prompt that it can learn from


class OnlineAlgorithm(Algorithm):
    """What every algorithm that samples from the policy knows."""

    prompts_per_step: PositiveInt  # prompts per optimiser step, over all ranks; batch sizes follow from it
    minibatches: PositiveInt  # optimiser steps that one generation is cut into
    track_kl: bool  # keep a reference and log `kl` also where beta=0
    kl: Annotated[FixedKl | AdaptiveKl, Field(discriminator="kind")]  # what becomes of `beta`

    knobs = _SAMPLING
    trainer_class = "GRPOConfig"


class Grpo(OnlineAlgorithm):
    """Group Relative Policy Optimization (arXiv:2402.03300) and its relatives on TRL's GRPOTrainer."""

    kind: Literal["grpo", "dr_grpo", "dapo", "gspo"]
    resampling_rounds: NonNegativeInt  # how often groups of equal rewards are replaced; 0: they stay


class Rloo(OnlineAlgorithm):
    """REINFORCE leave-one-out (arXiv:2402.14740) on TRL's RLOOTrainer."""

    kind: Literal["rloo"]

    trainer_class = "RLOOConfig"


class SeparateCritic(Settings):
    """A value model of its own."""

    kind: Literal["separate"]
    path: Name | None  # hub id or folder, with the policy's tokens; null: what the policy starts from
    learning_rate: PositiveFloat


class SharedCritic(Settings):
    """A value head on the policy's trunk."""

    kind: Literal["shared"]
    learning_rate: PositiveFloat  # of the head


class ZeroCritic(Settings):
    """Nothing is expected: REINFORCE with GAE's discounting."""

    kind: Literal["zero"]


CriticSettings = Annotated[SeparateCritic | SharedCritic | ZeroCritic, Field(discriminator="kind")]


class Ppo(OnlineAlgorithm):
    """Proximal Policy Optimization (arXiv:1707.06347) with a critic, on TRL's GRPOTrainer."""

    kind: Literal["ppo"]
    critic: CriticSettings
    gamma: Probability  # discount per token
    gae_lambda: Probability  # 1: the rewards that came; 0: the critic's next estimate
    value_coefficient: NonNegativeFloat  # weight of the value loss
    value_clip: PositiveFloat | None  # how far a value may move per generation; null: as far as it likes
    whiten_advantages: bool  # to mean 0 and standard deviation 1 over all ranks

    least_generations = 1


class Dpo(Algorithm):
    """Direct Preference Optimization (arXiv:2305.18290) on TRL's DPOTrainer."""

    kind: Literal["dpo"]
    pairs_per_step: PositiveInt  # preference pairs per optimiser step, over all ranks

    knobs = frozenset({"beta"})
    trainer_class = "DPOConfig"


ALGORITHMS: dict[str, type[Algorithm]] = {
    "grpo": Grpo, "dr_grpo": Grpo, "dapo": Grpo, "gspo": Grpo, "rloo": Rloo, "ppo": Ppo, "dpo": Dpo,
}  # fmt: skip
AlgorithmSettings = Annotated[Grpo | Rloo | Ppo | Dpo, Field(discriminator="kind")]
