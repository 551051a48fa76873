"""Reinforcement learning with the composed algorithm, rewards and rollout."""

from pathlib import Path

from r1exp.algorithm.grpo import grpo_trainer
from r1exp.model.load import load_policy, load_tokenizer
from r1exp.stage.training import train
from r1exp.step.frozen import Step


def rl(step: Step, folder: Path) -> str | None:
    """Train, save the model in `artifact/`, and return the W&B id."""
    config = step.config
    tokenizer = load_tokenizer(step.model_path, config.model)
    problems = config.dataset.load("train")
    return train(
        step,
        folder,
        tokenizer,
        lambda output, callbacks: grpo_trainer(
            config,
            step.trainer_args,
            output,
            load_policy(step.model_path, config.model),
            tokenizer,
            problems,
            callbacks,
        ),
    )
