"""Fine-tunes on worked solutions, written in the style of the prompt (stage=sft) [sft-grpo]."""

from pathlib import Path

from transformers import TrainerCallback
from trl import SFTConfig

from r1exp.algorithm import trainers
from r1exp.algorithm.learned_turns import turns_of
from r1exp.distributed import is_main_process
from r1exp.model.load import load_policy, load_tokenizer, peft_config
from r1exp.stage.sft import Sft
from r1exp.stage.sft_rows import FittingRows
from r1exp.stage.step import Step
from r1exp.stage.training import train
from r1exp.stage.training_rows import dataset_of
from r1exp.step.checkpoints import good_checkpoint
from r1exp.terminal import say


def train_sft(step: Step, folder: Path) -> str | None:
    """Train, save the model in `artifact/`, and return its identity in trackers.

    Raises:
        Refused: a row has no solution, or is too long and `stage.too_long` does not leave it out.
    """
    config = step.config
    stage = config.stage
    assert isinstance(stage, Sft)
    tokenizer = load_tokenizer(step.model_path, config.model)
    rows = FittingRows(
        stage.problems(config),
        config,
        stage.chat_turns,
        turns_of(tokenizer),
        every_token=not stage.completion_only,
    )
    data = dataset_of((dict(row) for row in rows), folder)
    rows.refuse(stage.too_long, stage.rows_per_step)
    if rows.num_too_long and is_main_process():
        say(f"{rows.summary()} and are left out (stage.too_long=drop)")
    if rows.chats() and is_main_process():
        say(rows.chats())

    def make_trainer(output: Path, callbacks: list[TrainerCallback]) -> trainers.Sft:
        args = SFTConfig(**step.trainer_args, output_dir=str(output))  # before the model, see train_rl
        return trainers.Sft(
            model=load_policy(step.model_path, config.model),
            args=args,
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=callbacks,
            peft_config=peft_config(config.model),
            good_checkpoint=lambda most: good_checkpoint(folder, most),
        )

    return train(step, folder, tokenizer, make_trainer)
