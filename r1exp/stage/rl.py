"""Reinforcement learning with the composed algorithm, rewards and rollout."""

from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback
from trl import GRPOConfig

from r1exp.algorithm.kl_control import tracked
from r1exp.algorithm.kl_controller import FixedKl, KlController
from r1exp.algorithm.trainers import Grpo
from r1exp.model.load import load_policy, load_tokenizer, peft_config
from r1exp.prompt.chat import messages
from r1exp.rewards.adapter import reward_funcs
from r1exp.rewards.committee import Committee
from r1exp.rewards.ranks import Ranks
from r1exp.stage.training import train
from r1exp.step.checkpoints import last_checkpoint
from r1exp.step.frozen import Step


def rl(step: Step, folder: Path) -> str | None:
    """Train, save the model in `artifact/`, and return the W&B id."""
    tokenizer = load_tokenizer(step.model_path, step.config.model)

    def make_trainer(output: Path, callbacks: list[TrainerCallback]) -> Trainer:
        return grpo(step, folder, output, tokenizer, callbacks)

    return train(step, folder, tokenizer, make_trainer)


def grpo(
    step: Step,
    folder: Path,
    output: Path,
    tokenizer: PreTrainedTokenizerBase,
    callbacks: list[TrainerCallback],
) -> Grpo:
    """Return the trainer of the GRPO family."""
    config = step.config
    assert config.rewards is not None and config.algorithm is not None and config.beta is not None
    committee = Committee(config.rewards)
    beta = tracked(config.beta, config.algorithm.track_kl)
    problems = config.dataset.load("train")
    return Grpo(
        model=load_policy(step.model_path, config.model),
        reward_funcs=reward_funcs(committee, _ranks(step)),
        args=GRPOConfig(
            **{**step.trainer_args, "beta": beta}, output_dir=str(output), reward_weights=committee.weights
        ),
        train_dataset=Dataset.from_list([p.to_row(messages(p.prompt, config.prompt)) for p in problems]),
        processing_class=tokenizer,
        callbacks=callbacks,
        peft_config=peft_config(config.model),
        kl=KlController(FixedKl(kind="fixed"), config.beta),
        last_checkpoint=lambda: last_checkpoint(folder),
    )


def _ranks(step: Step) -> Ranks:
    """Return this rank among the others, as rewards see them."""
    state = PartialState(cpu=step.device == "cpu")
    return Ranks(state.process_index, state.num_processes, gather_object)
