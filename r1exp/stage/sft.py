"""Settings of stage=sft. The work is in `r1exp.stage.train_sft`."""

from collections import deque
from dataclasses import replace
from typing import Any, Literal

from pydantic import PositiveInt

from r1exp.algorithm.base import Rows
from r1exp.errors import Refused
from r1exp.model.preview import chat_tokenizer
from r1exp.model.workload import Load
from r1exp.stage.base import TRAINING_FIELDS, TRAINING_READS, Stage, num_validation
from r1exp.stage.recent import Recent
from r1exp.stage.sft_rows import ChatTurns, FittingRows, TooLong, max_length_of
from r1exp.stage.step_settings import StepSettings


class Sft(Stage):
    """Supervised fine-tuning on worked solutions, written in the prompt's own style."""

    kind: Literal["sft"]
    rows_per_step: PositiveInt  # rows per optimizer step, over all ranks
    completion_only: bool  # the loss covers the answer only; false: the prompt too [sft-grpo]
    too_long: TooLong  # what is done with rows of more than `trainer.max_length` tokens
    chat_turns: ChatTurns = (
        "all"  # turns of the assistant that a chat teaches: all in one row, each in its own row, the last
    )

    work = "r1exp.stage.train_sft:train_sft"
    makes = "model"
    fields = TRAINING_FIELDS
    reads = TRAINING_READS | {"prompt"}
    trains = True
    trainer_config = "SFTConfig"

    def num_validation(self, config: StepSettings) -> int:
        """Return how many problems are kept out of training."""
        return num_validation(config)

    def own_settings(self, config: StepSettings) -> dict[str, Any]:
        """Return the settings without `too_long`, unless rows are dropped: a step that refuses them has no result.

        Nor with `chat_turns=all`, which decides nothing for problems.
        """
        values = super().own_settings(config)
        if self.too_long == "refuse":
            del values["too_long"]
        if self.chat_turns == "all":
            del values["chat_turns"]
        return values | config.dataset.order_settings

    def check_data(self, config: StepSettings, num_problems: int | None) -> int | None:
        """Return the number of rows that are learned from; counts their tokens if the tokenizer is on this machine.

        Raises:
            Refused: a row has no worked solution, or its answer would be cut; or rows are joined without a border.
        """
        if config.trainer.get("packing") and config.trainer.get("packing_strategy") == "wrapped":
            raise Refused(
                "trainer.packing_strategy=wrapped joins rows so that each attends to those before it, and cuts them anywhere; "
                "use trainer.packing_strategy=bfd, which keeps them apart"
            )
        if config.trainer.get("packing") and config.dataset.order:
            raise Refused(
                f"trainer.packing=true joins rows by their lengths, so that dataset.order={config.dataset.order} would be lost; "
                "leave one of the two out"
            )
        if num_problems is None:
            return None
        counted = self._counted(config)
        counted.refuse(self.too_long, self.rows_per_step)
        return counted.num_fitting

    def data_notes(self, config: StepSettings) -> list[str]:
        """Return how many rows are left out because they are too long, and how many turns of chats are learned, where the
        data are on this machine."""
        if config.dataset.count(self.split) is None:
            return super().data_notes(config)
        counted = self._counted(config)
        notes = [f"{counted.summary()} and are left out"] if counted.num_too_long else []
        return [*notes, counted.chats()] if counted.chats() else notes

    def _counted(self, config: StepSettings) -> FittingRows:
        """Read every row once in this process, and count those that are too long."""
        groups = (config.dataset, config.prompt, config.model)
        key = (
            config.dataset.fingerprint(),
            max_length_of(config),
            self.chat_turns,
            self.completion_only,
            self.num_validation(config),
            *(group.model_dump_json() for group in groups),
        )
        return _COUNTED.get(key, lambda: self._count_fitting(config))

    def _count_fitting(self, config: StepSettings) -> FittingRows:
        place = config.dataset.unteachable()
        if place is not None:
            raise Refused(
                f"{place}, which stage=sft learns from; correct it, name the right column, or use a data set with "
                "worked solutions"
            )
        tokenizer = chat_tokenizer(config.model)
        rows = FittingRows(
            self.problems(config),
            config,
            self.chat_turns,
            tokenizer,
            every_token=not self.completion_only,
        )
        deque(rows, maxlen=0)
        return rows

    def rows(self, config: StepSettings) -> Rows:
        """Return the rows of one optimizer step."""
        return Rows(self.rows_per_step, "stage.rows_per_step", "rows", config.model.rows_per_device.sft)

    def trainer_arguments(self, config: StepSettings) -> dict[str, Any]:
        """Return which tokens the loss counts, and whether rows come in the order of the data set."""
        in_order = {"train_sampling_strategy": "sequential"} if config.dataset.order else {}
        return {"completion_only_loss": self.completion_only} | in_order

    def memory_load(self, load: Load, config: StepSettings) -> Load:
        """Return `load` with the logits of every token, and rows cut at `trainer.max_length`."""
        longest = min(load.tokens, int(config.trainer.get("max_length") or load.tokens))
        return replace(load, tokens=longest, logit_tokens=longest)


_COUNTED: Recent[FittingRows] = Recent(8)
