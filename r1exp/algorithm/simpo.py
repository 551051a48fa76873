"""Settings of Simple Preference Optimization.

    loss = -log sigmoid(beta / |y_w| log pi(y_w) - beta / |y_l| log pi(y_l) - margin)

Source: arXiv:2405.14734, eq. 6. The trainer is `r1exp.algorithm.simpo_trainer`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import NonNegativeFloat

from r1exp.algorithm.dpo import PairsAlgorithm
from r1exp.model.settings import ModelSettings
from r1exp.model.workload import Load

_OF_THE_REFERENCE = (
    "precompute_ref_log_probs",
    "precompute_ref_batch_size",
    "sync_ref_model",
    "f_divergence_type",
    "f_alpha_divergence_coef",
)


class Simpo(PairsAlgorithm):
    """Simple Preference Optimization: pairs, log-probabilities per token, and no reference."""

    kind: Literal["simpo"]
    margin: NonNegativeFloat  # gamma, which the difference of the rewards should exceed

    @property
    def trainer(self) -> str:
        """Import path of the trainer."""
        return "r1exp.algorithm.simpo_trainer:Simpo"

    def check(self, beta: float | None, trainer: Mapping[str, Any]) -> None:
        """Raise ValueError for another loss, a reference, or a beta without a scale."""
        if beta == 0.0:
            raise ValueError(
                "beta=0 scales the rewards of algorithm=simpo to 0, so that nothing is learned; type beta=2.0"
            )
        if trainer.get("loss_type") != ["sigmoid_norm"]:
            raise ValueError(
                f"trainer.loss_type={trainer.get('loss_type')}: algorithm=simpo is the loss sigmoid_norm without a reference; "
                "leave it out, or use algorithm=dpo"
            )
        for name in (*_OF_THE_REFERENCE, "ld_alpha", "label_smoothing"):
            if trainer.get(name):
                raise ValueError(
                    f"trainer.{name}={trainer[name]} has no effect with algorithm=simpo, which has no reference; leave it out"
                )

    def memory_load(self, load: Load, model: ModelSettings, beta: float, completion_tokens: int) -> Load:
        """Return `load` with two rows for each pair, and without a reference."""
        return replace(load, keeps_reference=False, rows=2 * load.rows)
