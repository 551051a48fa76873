"""Settings of stage=reward_model. The work is in `r1exp.stage.train_reward_model`."""

from dataclasses import replace
from typing import Literal

from pydantic import PositiveInt

from r1exp.algorithm.base import Rows
from r1exp.model.workload import Load
from r1exp.stage.base import TRAINING_FIELDS, TRAINING_READS, Stage
from r1exp.stage.step_settings import StepSettings


class RewardModel(Stage):
    """Trains a reward model on preference pairs (arXiv:2203.02155, eq. 1)."""

    kind: Literal["reward_model"]
    pairs_per_step: PositiveInt  # preference pairs per optimizer step, over all ranks

    work = "r1exp.stage.train_reward_model:train_reward_model"
    makes = "reward_model"
    fields = TRAINING_FIELDS
    reads = TRAINING_READS
    trains = True
    reads_pairs = True
    trainer_config = "RewardConfig"

    def rows(self, config: StepSettings) -> Rows:
        """Return the pairs of one optimizer step; a pair is two rows."""
        given = config.model.rows_per_device.sft
        most = given if given == "auto" else max(given // 2, 1)
        return Rows(self.pairs_per_step, "stage.pairs_per_step", "pairs", most)

    def fingerprint(self, config: StepSettings) -> str:
        """Return a hash of both splits, because the held-out pairs are ranked at the end."""
        return config.dataset.fingerprint()

    def memory_load(self, load: Load, config: StepSettings) -> Load:
        """Return `load` with two rows for each pair."""
        return replace(load, rows=2 * load.rows)
