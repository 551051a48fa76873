"""Settings of Kahneman-Tversky Optimization.

Source: arXiv:2402.01306, on TRL's KTOTrainer.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import PositiveInt

from r1exp.algorithm.base import Algorithm, Rows
from r1exp.model.settings import ModelSettings, RowsPerDevice
from r1exp.model.workload import Load


class Kto(Algorithm):
    """Kahneman-Tversky Optimization: learns from answers that are labelled good or bad."""

    kind: Literal["kto"]
    answers_per_step: PositiveInt  # labelled answers per optimizer step, over all ranks

    fields = frozenset({"beta"})
    trainer_config = "KTOConfig"
    reads_labels = True

    @property
    def trainer(self) -> str:
        """Import path of the trainer."""
        return "r1exp.algorithm.kto_trainer:Kto"

    def rows(self, num_generations: int | None, fit: RowsPerDevice) -> Rows:
        """Return the answers of one optimizer step; the KL is estimated from a second sequence for each of them."""
        most = fit.sft if fit.sft == "auto" else max(fit.sft, 2)
        return Rows(self.answers_per_step, "algorithm.answers_per_step", "answers", most, least_per_device=2)

    def check(self, beta: float | None, trainer: Mapping[str, Any]) -> None:
        """Raise ValueError for an order of the rows that breaks the estimate of the KL, or weights that learn nothing."""
        if trainer.get("train_sampling_strategy", "sequential") != "sequential":
            raise ValueError(
                f"trainer.train_sampling_strategy={trainer['train_sampling_strategy']}: the KL of algorithm=kto is estimated "
                "from neighbors in a fixed order, which seed shuffles; leave it out"
            )
        if beta == 0.0:
            raise ValueError(
                "beta=0 makes the loss of algorithm=kto constant, so that nothing is learned; type beta=0.1"
            )
        weights = [trainer.get(name) for name in ("desirable_weight", "undesirable_weight")]
        if any(weight is not None and weight < 0.0 for weight in weights) or weights == [0.0, 0.0]:
            raise ValueError(
                f"trainer.desirable_weight={weights[0]} and trainer.undesirable_weight={weights[1]}: the weights of good and "
                "bad answers are at least 0, and one of them is above 0"
            )

    def memory_load(self, load: Load, model: ModelSettings, beta: float, completion_tokens: int) -> Load:
        """Return `load` with the reference model."""
        return replace(load, keeps_reference=True)
