"""The base classes of algorithms. An algorithm states what it needs, so that no other module tests its type.

Arguments of TRL are given under `trainer:` with TRL's names; the settings classes hold only r1exp's own.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt

from r1exp.algorithm.kl_controller import KlSettings
from r1exp.model.settings import ModelSettings, RowsPerDevice
from r1exp.model.workload import Load
from r1exp.settings import Settings

# The smallest positive float64. TRL 1.16 keeps no reference if `beta == 0.0` in Python. With this number TRL keeps the
# reference and logs `kl`, while the loss and its gradient are those of beta=0 (r1exp.algorithm.kl_trainer).
TRACKED_ZERO = 5e-324


@dataclass(frozen=True)
class Rows:
    """The rows of one optimizer step, over all ranks."""

    number: int  # rows per optimizer step
    setting: str  # the setting that determines the number, for messages
    unit: str  # "rows", "pairs" or "completions"
    most_per_device: int | Literal["auto"]  # largest number of rows in one forward pass of one rank
    least_per_device: int = 1  # smallest number of rows in one forward pass of one rank


class Algorithm(Settings, ABC):
    """A way to update the policy. Subclasses are frozen settings; the trainer is imported when it is built."""

    kind: str

    # The settings that this algorithm reads, of those that not all algorithms read.
    fields: ClassVar[frozenset[str]]
    # The settings of the step that it reads in addition, as dotted keys.
    reads: ClassVar[frozenset[str]] = frozenset()
    # Arguments of the trainer that change no result with this algorithm.
    outside_key: ClassVar[frozenset[str]] = frozenset()
    trainer_config: ClassVar[str]  # name of the TRL dataclass that receives `trainer:`
    least_generations: ClassVar[int] = 2  # smallest number of completions per prompt
    reads_pairs: ClassVar[bool] = False  # the data set must have preference pairs
    reads_labels: ClassVar[bool] = (
        False  # the data set must have labelled answers, or preference pairs, each of which is two
    )

    @property
    @abstractmethod
    def trainer(self) -> str:
        """Import path of the trainer class, `package.module:Class`."""

    @property
    def online(self) -> "OnlineAlgorithm | None":
        """This algorithm if it samples from the policy that it trains, else None."""
        return None

    @abstractmethod
    def rows(self, num_generations: int | None, fit: RowsPerDevice) -> Rows:
        """Return the rows of one optimizer step.

        Args:
            num_generations: Completions per prompt, of an algorithm that reads it.
            fit: How many rows of a forward pass fit on a device.
        """

    def check(self, beta: float | None, trainer: Mapping[str, Any]) -> None:
        """Raise ValueError if this algorithm cannot work with `beta` or the trainer's arguments."""

    def trainer_arguments(self, beta: float) -> dict[str, Any]:
        """Return the arguments of `trainer_config` that follow from this algorithm's own settings."""
        return {"beta": beta}

    def located(self) -> Self:
        """Return these settings with folders of models instead of the runs that made them."""
        return self

    def other_models(self) -> dict[str, str]:
        """Return the models it loads in addition to the policy: key below `algorithm.` -> folder or hub id."""
        return {}

    def memory_load(self, load: Load, model: ModelSettings, beta: float, completion_tokens: int) -> Load:
        """Return `load` with what this algorithm keeps in memory."""
        del model, completion_tokens
        return load


class OnlineAlgorithm(Algorithm):
    """An algorithm that samples completions from the policy that it trains.

    `advantages` may be overridden by a variant of GRPO. It is called once for each generation batch:

        def advantages(self, rewards, num_generations):  # rewards: tensor (N,), N completions of all ranks
            groups = rewards.view(-1, num_generations)   # the completions of one prompt are neighbors
            return (groups - groups.mean(dim=1, keepdim=True)).flatten()
    """

    prompts_per_step: PositiveInt  # prompts per optimizer step, over all ranks; batch sizes follow from it
    minibatches: PositiveInt  # optimizer steps per generation batch
    track_kl: bool  # keep a reference and log `kl` even if beta=0
    kl: KlSettings  # whether and how `beta` changes during training

    fields = frozenset({"rewards", "beta", "num_generations", "temperature"})
    reads = frozenset({"max_completion_length", "rollout"})
    trainer_config = "GRPOConfig"
    advantages: ClassVar[Any] = None  # None: those of TRL
    applies_advantages: ClassVar[bool] = False  # the trainer calls `advantages` if the class defines it

    @property
    def corrects_staleness(self) -> bool:
        """Whether it can train on completions of older weights, with the ratio of probabilities to them."""
        return False

    @property
    def online(self) -> "OnlineAlgorithm":
        """This algorithm, because it samples from the policy that it trains."""
        return self

    @property
    def resting_steps(self) -> int:
        """Optimizer steps for which a problem rests that is solved always or never; 0: none rests, or its trainer cannot."""
        return 0

    @property
    def trims_passes(self) -> bool | None:
        """Whether the rows of each pass are trimmed to the longest of them; None: its trainer cannot."""
        return None

    @property
    def sorts_passes(self) -> bool:
        """Whether the rows of an optimizer step are sorted by length before they are cut into passes."""
        return False

    @property
    def takes_sampled_logps(self) -> bool | None:
        """Whether log-probabilities are taken from sampling, where that is the same; None: its trainer cannot."""
        return None

    def rows(self, num_generations: int | None, fit: RowsPerDevice) -> Rows:
        """Return the completions of one optimizer step."""
        assert num_generations is not None
        setting = "algorithm.prompts_per_step x num_generations"
        return Rows(self.prompts_per_step * num_generations, setting, "completions", fit.rl)

    def check(self, beta: float | None, trainer: Mapping[str, Any]) -> None:
        """Raise ValueError if a controlled `beta` starts at 0, the class defines advantages in vain, or a loss lacks a bound."""
        if self.advantages is not None and not self.applies_advantages:
            raise ValueError(
                f"{type(self).__name__} defines advantages, and its trainer would not call them; derive the class from "
                "r1exp.algorithm.grpo:Grpo"
            )
        if self.kl.target is not None and beta == 0.0:
            raise ValueError(
                f"algorithm.kl.target={self.kl.target} is controlled by multiplying beta, and beta=0 would stay 0; "
                "start from beta=0.01, for example, or set algorithm.kl.target=null"
            )
        bound = trainer.get("epsilon_high")
        if trainer.get("loss_type") == "cispo" and (bound is None or bound <= 1.0):
            given = "null, for which TRL 1.16 takes epsilon=0.2" if bound is None else bound
            raise ValueError(
                f"trainer.loss_type=cispo with trainer.epsilon_high={given}: cispo's epsilon_high is the largest weight of a "
                "token, not a distance from 1, and an unchanged policy has the weight 1, so that every weight would be cut "
                "to the same number; type trainer.epsilon_high=5.0"
            )

    def trainer_arguments(self, beta: float) -> dict[str, Any]:
        """Return `beta`; TRACKED_ZERO if it is 0 and the KL is to be logged."""
        return {"beta": TRACKED_ZERO if beta == 0.0 and self.track_kl else beta}

    def memory_load(self, load: Load, model: ModelSettings, beta: float, completion_tokens: int) -> Load:
        """Return `load` with the reference model, and with logits of the completion only."""
        return replace(load, keeps_reference=bool(beta) or self.track_kl, logit_tokens=completion_tokens)


class OnGrpoTrainer(OnlineAlgorithm):
    """An online algorithm on TRL's GRPOTrainer, whose passes can be made shorter and fewer."""

    # Trim the rows of each pass to the longest of them, or sort the rows of an optimizer step by length and leave out all padding:
    # faster, and other last digits. In no key where it is false.
    short_passes: bool | Literal["sorted"] = Field(default=False, exclude_if=lambda value: not value)
    # Take the log-probabilities of the policy that sampled from sampling, instead of from a further pass, where both compute the
    # same: one process, float32, no dropout (r1exp.algorithm.sampled_logps). Other last digits. In no key where it is false.
    sampled_logps: bool = Field(default=False, exclude_if=lambda value: not value)

    @property
    def trims_passes(self) -> bool:
        """Whether the rows of each pass are trimmed to the longest of them."""
        return bool(self.short_passes)

    @property
    def sorts_passes(self) -> bool:
        """Whether the rows of an optimizer step are sorted by length before they are cut into passes."""
        return self.short_passes == "sorted"

    @property
    def takes_sampled_logps(self) -> bool:
        """Whether log-probabilities are taken from sampling."""
        return self.sampled_logps

    def check(self, beta: float | None, trainer: Mapping[str, Any]) -> None:
        """Raise ValueError also where sorted passes would change what is learnt, not its last digits only."""
        super().check(beta, trainer)
        if self.sorts_passes and trainer.get("loss_type") == "bnpo":
            raise ValueError(
                "algorithm.short_passes=sorted with trainer.loss_type=bnpo: this loss is a mean over the tokens of a pass, so "
                "that it matters which rows are in it; use algorithm.short_passes=true, or another loss"
            )


class TokenReturns(OnGrpoTrainer):
    """An online algorithm whose advantages are made of each token's return, with the KL penalty as part of the reward."""

    least_generations = 1
    # Advantages are the trainer's own, and the KL penalty is part of the reward.
    outside_key = frozenset({"scale_rewards", "multi_objective_aggregation", "use_bias_correction_kl"})

    @property
    def corrects_staleness(self) -> bool:
        """Whether it can train on completions of older weights."""
        return True

    def trainer_arguments(self, beta: float) -> dict[str, Any]:
        """Return a `beta` that only makes TRL keep the reference."""
        return {"beta": TRACKED_ZERO if beta or self.track_kl else 0.0}
