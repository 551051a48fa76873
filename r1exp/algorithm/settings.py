"""Which algorithm updates the policy. conf/algorithm/*.yaml.

Fields that TRL knows stand under `trainer:` with TRL's names; here stand only the ones that are ours.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from r1exp.algorithm.kl_controller import KlSettings
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

    prompts_per_step: PositiveInt  # prompts per optimizer step, over all ranks; batch sizes follow from it
    minibatches: PositiveInt  # optimizer steps that one generation is cut into
    track_kl: bool  # keep a reference and log `kl` also where beta=0
    kl: KlSettings  # what becomes of `beta`

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


class CriticSettings(Settings):
    """Who estimates what a completion will be worth."""

    # separate: a value model; shared: a value head on the policy's trunk; zero: nothing is expected
    kind: Literal["separate", "shared", "zero"]
    path: Name | None  # of a separate one: hub id or folder; null: what the policy starts from
    learning_rate: PositiveFloat  # of the value model, or of the head

    @model_validator(mode="after")
    def _only_a_separate_one_is_loaded(self) -> Self:
        if self.path is not None and self.kind != "separate":
            raise ValueError(
                f"path={self.path} is loaded by kind=separate only, and kind={self.kind} has no weights of its own "
                "to load; leave algorithm.critic.path out, or use algorithm.critic.kind=separate"
            )
        return self


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
    pairs_per_step: PositiveInt  # preference pairs per optimizer step, over all ranks

    knobs = frozenset({"beta"})
    trainer_class = "DPOConfig"


ALGORITHMS: dict[str, type[Algorithm]] = {
    "grpo": Grpo, "dr_grpo": Grpo, "dapo": Grpo, "gspo": Grpo, "rloo": Rloo, "ppo": Ppo, "dpo": Dpo,
}  # fmt: skip
AlgorithmSettings = Annotated[Grpo | Rloo | Ppo | Dpo, Field(discriminator="kind")]
