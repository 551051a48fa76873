"""Settings of Proximal Policy Optimization with a critic.

Source: arXiv:1707.06347; the trainer is `r1exp.algorithm.ppo_trainer`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from r1exp.algorithm.base import TokenReturns
from r1exp.model.locate import locate_critic
from r1exp.model.settings import ModelSettings
from r1exp.model.shapes import shape_of
from r1exp.model.workload import Load
from r1exp.settings import Name, Probability, Settings


class CriticSettings(Settings):
    """The model that estimates the return of a completion at each token."""

    # separate: a value model; shared: a value head on the policy's trunk; zero: every value is 0
    kind: Literal["separate", "shared", "zero"]
    # a run or step (its critic), a folder or hub id of a model or of a reward model; null: the start model of the policy
    path: Name | None
    learning_rate: PositiveFloat  # of the value model or the value head
    # Optimizer steps at the start that train the critic only (VC-PPO: value pretraining, arXiv:2503.01491). In no key where it is 0.
    warmup_steps: NonNegativeInt = Field(default=0, exclude_if=lambda value: value == 0)
    # Lambda of the returns that the critic learns (VC-PPO: decoupled GAE); null: the policy's. In no key where it is null.
    gae_lambda: Probability | None = Field(default=None, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _only_a_critic_with_weights_is_loaded(self) -> Self:
        if self.path is not None and self.kind == "zero":
            raise ValueError(
                f"path={self.path} is loaded with kind=separate or kind=shared, and kind=zero has no weights; "
                "leave algorithm.critic.path out, or use algorithm.critic.kind=separate"
            )
        return self

    @model_validator(mode="after")
    def _only_a_separate_critic_is_trained_alone(self) -> Self:
        if self.warmup_steps and self.kind != "separate":
            raise ValueError(
                f"warmup_steps={self.warmup_steps} trains the critic while the policy stays as it is, and kind={self.kind} "
                "has no weights of its own below the head; use algorithm.critic.kind=separate, or warmup_steps=0"
            )
        return self

    @model_validator(mode="after")
    def _only_a_critic_has_targets(self) -> Self:
        if self.gae_lambda is not None and self.kind == "zero":
            raise ValueError(
                f"gae_lambda={self.gae_lambda} is of the critic's targets, and kind=zero learns none; leave "
                "algorithm.critic.gae_lambda out"
            )
        return self


class Ppo(TokenReturns):
    """Proximal Policy Optimization."""

    kind: Literal["ppo"]
    critic: CriticSettings  # settings of the value model
    gamma: Probability  # discount per token
    gae_lambda: Probability  # 1: returns only; 0: one-step estimates of the critic
    # Lambda of a completion of l tokens is 1 - 1 / (alpha l) instead of gae_lambda (VAPO, arXiv:2504.05118). In no key
    # where it is null.
    length_alpha: PositiveFloat | None = Field(default=None, exclude_if=lambda value: value is None)
    value_coefficient: NonNegativeFloat  # weight of the value loss
    value_clip: PositiveFloat | None  # largest change of a value per generation batch; null: no limit
    whiten_advantages: bool  # normalize to mean 0 and standard deviation 1 over all ranks

    @property
    def trainer(self) -> str:
        """Import path of the trainer."""
        return "r1exp.algorithm.ppo_trainer:Ppo"

    def check(self, beta: float | None, trainer: Mapping[str, Any]) -> None:
        """Raise ValueError if weight decay would change the policy while only the critic is trained."""
        super().check(beta, trainer)
        if self.critic.warmup_steps and trainer.get("weight_decay"):
            raise ValueError(
                f"algorithm.critic.warmup_steps={self.critic.warmup_steps} leaves the policy as it is, and "
                f"trainer.weight_decay={trainer['weight_decay']} would shrink its weights; set one of them to 0"
            )

    def located(self) -> Self:
        """Return these settings with the folder of the critic instead of the run or step that trained it."""
        path = self.critic.path
        if path is None or path.startswith("artifact:"):
            return self
        found = str(locate_critic(path))
        return self.model_copy(update={"critic": self.critic.model_copy(update={"path": found})})

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
