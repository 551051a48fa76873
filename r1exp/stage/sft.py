"""Settings of stage=sft. The work is in `r1exp.stage.train_sft`."""

from dataclasses import replace
from typing import Any, Literal

from pydantic import PositiveInt

from r1exp.algorithm.base import Rows
from r1exp.model.memory import Load
from r1exp.stage.base import TRAINING_FIELDS, TRAINING_READS, Stage
from r1exp.stage.step_settings import StepSettings


class Sft(Stage):
    """Supervised fine-tuning on worked solutions, written in the prompt's own style."""

    kind: Literal["sft"]
    rows_per_step: PositiveInt  # rows per optimizer step, over all ranks
    completion_only: bool  # the loss covers the answer only; false: the prompt too [sft-grpo]

    work = "r1exp.stage.train_sft:train_sft"
    makes = "model"
    fields = TRAINING_FIELDS
    reads = TRAINING_READS | {"prompt"}
    trains = True
    trainer_config = "SFTConfig"

    def rows(self, config: StepSettings) -> Rows:
        """Return the rows of one optimizer step."""
        return Rows(self.rows_per_step, "stage.rows_per_step", "rows", config.model.rows_per_device.sft)

    def trainer_arguments(self, config: StepSettings) -> dict[str, Any]:
        """Return which tokens the loss counts."""
        return {"completion_only_loss": self.completion_only}

    def memory_load(self, load: Load, config: StepSettings) -> Load:
        """Return `load` with the logits of every token, and rows cut at `trainer.max_length`."""
        longest = min(load.tokens, int(config.trainer.get("max_length") or load.tokens))
        return replace(load, tokens=longest, logit_tokens=longest)
