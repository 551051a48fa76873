"""Fine-tunes on worked solutions, written in the style of the prompt (stage=sft) [sft-grpo]."""

from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import SFTConfig

from r1exp.algorithm import trainers
from r1exp.errors import Refused
from r1exp.model.load import load_policy, load_tokenizer, peft_config
from r1exp.prompt.chat import messages
from r1exp.prompt.style import style_named
from r1exp.records import Problem
from r1exp.stage.config import StepConfig
from r1exp.stage.step import Step
from r1exp.stage.training import train
from r1exp.step.checkpoints import last_checkpoint


def train_sft(step: Step, folder: Path) -> str | None:
    """Train, save the model in `artifact/`, and return the identity of the step in trackers."""
    config = step.config
    tokenizer = load_tokenizer(step.model_path, config.model)
    rows = [demonstration(problem, config) for problem in config.dataset.load("train")]
    return train(
        step,
        folder,
        tokenizer,
        lambda output, callbacks: trainers.Sft(
            model=load_policy(step.model_path, config.model),
            args=SFTConfig(**step.trainer_args, output_dir=str(output)),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=callbacks,
            peft_config=peft_config(config.model),
            last_checkpoint=lambda: last_checkpoint(folder),
        ),
    )


def demonstration(problem: Problem, config: StepConfig) -> dict[str, Any]:
    """Return a conversational prompt-completion row with the worked solution and the gold answer in the prompt's style.

    Raises:
        Refused: a problem has no solution or no answer.
    """
    solution = problem.columns.get("solution")
    if solution is None or problem.answer is None:
        missing = "a solution" if solution is None else "an answer"
        raise Refused(
            f"problem {problem.id!r} has no {missing.removeprefix('a ').removeprefix('an ')}, which stage=sft learns from; "
            "use a data set with worked solutions"
        )
    text = style_named(config.prompt.style).write(str(solution), problem.answer)
    return {
        "prompt": messages(problem.prompt, config.prompt),
        "completion": [{"role": "assistant", "content": text}],
    }
