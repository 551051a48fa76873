"""GRPO on TRL's trainer: A_i = (r_i - mean(r)) / std(r) within the group of one prompt.

Source: DeepSeekMath, eq. 3 and 4, section 4.1.2 (arXiv:2402.03300); TRL 1.16 GRPOTrainer.

What r1exp adds is the committee of rewards and a KL that is always measured. With the same
arguments the weights are bit for bit those of a bare TRL script (tests/algorithm/test_parity.py).
"""

from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from r1exp.model.load import peft_config
from r1exp.prompt.chat import messages
from r1exp.records import Problem
from r1exp.rewards.adapter import reward_funcs
from r1exp.rewards.committee import Committee
from r1exp.step.config import StepConfig

# For TRL 1.16 "the reference is not needed" is `beta == 0.0`. The smallest float64 is not 0.0 for
# Python, and rounds to 0.0 as soon as it meets a float32, bfloat16 or float16 tensor: the reference is
# kept, `kl` is logged, and the loss and its gradient are those of beta=0.
TRACKED_ZERO = 5e-324


def grpo_trainer(
    config: StepConfig,
    arguments: dict[str, Any],
    output: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: list[Problem],
    callbacks: list[TrainerCallback],
) -> GRPOTrainer:
    """Return the trainer of one RL step.

    Args:
        config: The step's settings; `rewards` and `algorithm` are given.
        arguments: For GRPOConfig, complete but for output_dir and reward_weights.
        output: Folder of checkpoints.
        model: The policy.
        tokenizer: With a chat template.
        problems: Training problems.
        callbacks: Tracking, health, guards.
    """
    assert config.rewards is not None and config.algorithm is not None
    committee = Committee(config.rewards)
    beta = arguments["beta"]
    if beta == 0.0 and config.algorithm.track_kl:
        beta = TRACKED_ZERO
    return GRPOTrainer(
        model=model,
        reward_funcs=reward_funcs(committee),
        args=GRPOConfig(
            **{**arguments, "beta": beta}, output_dir=str(output), reward_weights=committee.weights
        ),
        train_dataset=Dataset.from_list([problem.to_row(messages(problem.prompt, config.prompt)) for problem in problems]),
        processing_class=tokenizer,
        callbacks=callbacks,
        peft_config=peft_config(config.model),
    )
