"""Settings of Direct Preference Optimization, and of the algorithms that differ from it only in trainer arguments.

Source: arXiv:2305.18290, on TRL's DPOTrainer.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import PositiveInt

from r1exp.algorithm.base import Algorithm, Rows
from r1exp.model.settings import ModelSettings, RowsPerDevice
from r1exp.model.workload import Load

_SMOOTHED = {"robust", "exo_pair", "aot", "aot_unpaired"}  # losses that read label_smoothing in TRL 1.16


class PairsAlgorithm(Algorithm):
    """An algorithm that learns from pairs of a chosen and a rejected answer, on TRL's DPOTrainer."""

    pairs_per_step: PositiveInt  # preference pairs per optimizer step, over all ranks

    fields = frozenset({"beta"})
    trainer_config = "DPOConfig"
    reads_pairs = True

    def rows(self, num_generations: int | None, fit: RowsPerDevice) -> Rows:
        """Return the pairs of one optimizer step; a pair is two rows."""
        most = fit.sft if fit.sft == "auto" else max(fit.sft // 2, 1)
        return Rows(self.pairs_per_step, "algorithm.pairs_per_step", "pairs", most)


class Dpo(PairsAlgorithm):
    """Direct Preference Optimization; `ipo` differs only in conf/algorithm/."""

    @property
    def trainer(self) -> str:
        """Import path of the trainer."""
        return "r1exp.algorithm.trainers:Dpo"

    def check(self, beta: float | None, trainer: Mapping[str, Any]) -> None:
        """Raise ValueError for arguments that TRL 1.16 would ignore or misinterpret."""
        losses, weights = trainer.get("loss_type"), trainer.get("loss_weights")
        smoothing = trainer.get("label_smoothing")
        if smoothing and not set(losses or []) & _SMOOTHED:
            raise ValueError(
                f"trainer.label_smoothing={smoothing} has no effect with trainer.loss_type={sorted(losses or [])} in "
                "TRL 1.16; use trainer.loss_type=[robust]"
            )
        if losses and weights and len(losses) != len(weights):
            raise ValueError(
                f"trainer.loss_weights={weights} does not match trainer.loss_type={losses}: give each loss a weight, "
                f"for example trainer.loss_weights={[1.0] * len(losses)}"
            )

    def memory_load(self, load: Load, model: ModelSettings, beta: float, completion_tokens: int) -> Load:
        """Return `load` with the reference model, and with two rows for each pair."""
        return replace(load, keeps_reference=bool(beta), rows=2 * load.rows)
