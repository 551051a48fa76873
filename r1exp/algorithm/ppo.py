"""Settings of Proximal Policy Optimization with a critic.

Source: arXiv:1707.06347; the trainer is `r1exp.algorithm.ppo_trainer`.
"""

from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import NonNegativeFloat, PositiveFloat, model_validator

from r1exp.algorithm.base import TRACKED_ZERO, OnlineAlgorithm
from r1exp.model.settings import ModelSettings
from r1exp.model.shapes import shape_of
from r1exp.model.workload import Load
from r1exp.settings import Name, Probability, Settings


class CriticSettings(Settings):
    """The model that estimates the return of a completion at each token."""

    # separate: a value model; shared: a value head on the policy's trunk; zero: every value is 0
    kind: Literal["separate", "shared", "zero"]
    path: Name | None  # hub id or folder of a separate critic; null: the start model of the policy
    learning_rate: PositiveFloat  # of the value model or the value head

    @model_validator(mode="after")
    def _only_a_separate_critic_is_loaded(self) -> Self:
        if self.path is not None and self.kind != "separate":
            raise ValueError(
                f"path={self.path} is loaded with kind=separate only, and kind={self.kind} loads no weights; "
                "leave algorithm.critic.path out, or use algorithm.critic.kind=separate"
            )
        return self


class Ppo(OnlineAlgorithm):
    """Proximal Policy Optimization."""

    kind: Literal["ppo"]
    critic: CriticSettings  # settings of the value model
    gamma: Probability  # discount per token
    gae_lambda: Probability  # 1: returns only; 0: one-step estimates of the critic
    value_coefficient: NonNegativeFloat  # weight of the value loss
    value_clip: PositiveFloat | None  # largest change of a value per generation batch; null: no limit
    whiten_advantages: bool  # normalize to mean 0 and standard deviation 1 over all ranks

    least_generations = 1
    # Advantages come from the critic instead of the group, and the KL penalty is part of the reward.
    outside_key = frozenset({"scale_rewards", "multi_objective_aggregation", "use_bias_correction_kl"})

    @property
    def trainer(self) -> str:
        """Import path of the trainer."""
        return "r1exp.algorithm.ppo_trainer:Ppo"

    def trainer_arguments(self, beta: float) -> dict[str, Any]:
        """Return a `beta` that only makes TRL keep the reference: the KL penalty is part of the reward."""
        is_kept = bool(beta) or self.track_kl
        return {"beta": TRACKED_ZERO if is_kept else 0.0}

    def other_models(self) -> dict[str, str]:
        """Return the critic's model if it is not the start model of the policy."""
        return {} if self.critic.path is None else {"critic.path": self.critic.path}

    def memory_load(self, load: Load, model: ModelSettings, beta: float, completion_tokens: int) -> Load:
        """Return `load` with a separate critic.

        A critic that is not on this machine, or that an earlier step trains, is assumed to have the policy's size.
        """
        load = super().memory_load(load, model, beta, completion_tokens)
        if self.critic.kind != "separate":
            return load
        own = None
        if self.critic.path is not None and not self.critic.path.startswith("artifact:"):
            own = shape_of(
                model.model_copy(update={"kind": "pretrained", "path": self.critic.path, "revision": None})
            )
        return replace(load, critic=own or shape_of(model))
