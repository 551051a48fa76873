"""Trains with the composed algorithm, rewards and rollout (stage=rl).

The algorithm names its trainer. The inputs of the trainer depend only on whether it samples from the policy or learns
from preference pairs.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase, TrainerCallback

from r1exp.algorithm.base import OnlineAlgorithm
from r1exp.algorithm.guards import Guards
from r1exp.algorithm.kl_controller import KlController
from r1exp.algorithm.trainers import Policy
from r1exp.errors import Refused, StepFailed
from r1exp.launcher.base import free_port, loopback
from r1exp.model.load import load_policy, load_tokenizer, peft_config
from r1exp.model.scorer import open_reward_model
from r1exp.prompt.chat import prompt_of
from r1exp.registry import load
from r1exp.rewards.adapter import OnScored, reward_funcs
from r1exp.rewards.advice import evaluating_member
from r1exp.rewards.committee import Committee
from r1exp.rewards.ranks import Ranks
from r1exp.rollout.ahead import Ahead, Decoding
from r1exp.stage.completions import Recorder
from r1exp.stage.context_length import within_context
from r1exp.stage.pair_rows import labelled_rows, pair_row
from r1exp.stage.step import Step
from r1exp.stage.training import train
from r1exp.stage.training_rows import dataset_of
from r1exp.step.checkpoints import good_checkpoint


def train_rl(step: Step, folder: Path) -> str | None:
    """Train, save the model in `artifact/`, and return the identity of the step in trackers."""
    config = step.config
    tokenizer = load_tokenizer(step.model_path, config.model)
    recorder = None if config.online is None else Recorder()
    on_scored = None if recorder is None else recorder.add

    def make_trainer(output: Path, callbacks: list[TrainerCallback]) -> Guards:
        with config.rollout.engine(config.model, step.device, config.seed):
            return trainer_of(
                step, output, tokenizer, callbacks, lambda most: good_checkpoint(folder, most), on_scored
            )

    return train(step, folder, tokenizer, make_trainer, recorder)


def trainer_of(
    step: Step,
    output: Path,
    tokenizer: PreTrainedTokenizerBase,
    callbacks: list[TrainerCallback],
    good: Callable[[int | None], Path | None],
    on_scored: OnScored | None = None,
) -> Guards:
    """Return the trainer of the step's algorithm.

    Args:
        step: A step of stage=rl.
        output: Folder of the checkpoints.
        tokenizer: Tokenizer of the policy.
        callbacks: Callbacks of the trainer.
        good: Returns the newest good checkpoint after at most so many optimizer steps, or None.
        on_scored: Called with each batch that the rewards have scored.
    """
    config = step.config
    assert config.algorithm is not None
    trainer_class = load(config.algorithm.trainer)
    folder = output.parent
    inputs = (
        _answers(step, folder) if config.online is None else _prompts(step, config.online, folder, on_scored)
    )
    trusted = config.model.trust_remote_code
    # Two configurations: peft writes the names of the policy's layers into the first.
    policy = Policy(step.model_path, config.model.revision, tokenizer, trusted, peft_config(config.model))
    arguments = {**step.trainer_args, **_server_address(step), "output_dir": str(output)}
    if trusted:
        # TRL 1.16 else reads the reference's architecture from the main branch, and would run the code of that branch.
        arguments["model_init_kwargs"] = {
            **(arguments.get("model_init_kwargs") or {}),
            "architecture": AutoModelForCausalLM,
        }
    args = trainer_class.config(**arguments)  # before any model: with them ZeRO-3 partitions weights on load
    trainer: Guards = trainer_class(
        model=load_policy(step.model_path, config.model),
        args=args,
        processing_class=tokenizer,
        callbacks=callbacks,
        peft_config=peft_config(config.model),
        good_checkpoint=good,
        **inputs,
        **trainer_class.own_arguments(config.algorithm, policy),
    )
    if config.online is not None and config.online.resting_steps:
        names, judge = list(config.rewards or {}), evaluating_member(config.rewards)
        trainer.let_rest(config.online.resting_steps, None if judge is None else names.index(judge))
    if config.online is not None and config.rollout.seeds_batches:
        trainer.seeds_each_batch = True
    if config.online is not None and config.rollout.batches_ahead:
        _sample_ahead(trainer, step)
    return trainer


def _sample_ahead(trainer: Any, step: Step) -> None:
    """Have a second process sample the completions."""
    config, arguments = step.config, trainer.args
    decoding = Decoding(
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        top_k=arguments.top_k or 0,
        max_tokens=arguments.max_completion_length,
        end_ids=sorted(trainer.eos_token_ids),
        pad_id=trainer.processing_class.pad_token_id,
        rows=arguments.per_device_train_batch_size,
    )
    trainer.sample_ahead(Ahead(step.model_path, config.model, decoding), config.rollout.batches_ahead)


def _prompts(
    step: Step, algorithm: OnlineAlgorithm, folder: Path, on_scored: OnScored | None
) -> dict[str, Any]:
    """Return the data and rewards of a trainer that samples from the policy."""
    config = step.config
    assert config.stage is not None and config.rewards is not None and config.beta is not None
    committee = Committee(config.rewards, openers={"reward_model": open_reward_model})
    checked = within_context(config.stage.problems(config), step)
    data = dataset_of((p.to_row(prompt_of(p, config.prompt)) for p in checked), folder)
    _refuse_too_few(len(data), step)
    return {
        "reward_funcs": reward_funcs(committee, _ranks(step), on_scored=on_scored),
        "train_dataset": data,
        "kl": KlController(algorithm.kl, config.beta),
    }


def _answers(step: Step, folder: Path) -> dict[str, Any]:
    """Return the data of a trainer that learns from given answers: preference pairs, or single answers in a random order."""
    config = step.config
    assert config.algorithm is not None
    problems = config.dataset.stream("train")
    if not config.algorithm.reads_labels:
        return {
            "train_dataset": dataset_of((pair_row(problem, config.prompt) for problem in problems), folder)
        }
    labelled = dataset_of(
        (row for problem in problems for row in labelled_rows(problem, config.prompt)), folder
    )
    return {"train_dataset": labelled.shuffle(seed=config.seed)}


def _server_address(step: Step) -> dict[str, Any]:
    """Return TRL's arguments for the address of the vLLM server and the port for sending weights over NCCL."""
    if step.server is None:
        return {}
    return {"vllm_server_base_url": step.server, "vllm_group_port": free_port(loopback())}


def _refuse_too_few(num_problems: int, step: Step) -> None:
    """Raise Refused if the data are smaller than a generation batch; the plan cannot count data of an earlier step."""
    sizes = (step.trainer_args[name] for name in ("per_device_train_batch_size", "steps_per_generation"))
    needed = step.world_size * math.prod(sizes) // step.trainer_args["num_generations"]
    if num_problems < needed:
        raise Refused(
            f"the data has {num_problems} prompts, fewer than the {needed} of one generation batch; sample more "
            "(stage.num_problems of the step that samples), or lower algorithm.prompts_per_step"
        )


def _ranks(step: Step) -> Ranks:
    """Return the ranks, through which the rewards gather groups.

    Raises:
        StepFailed: the ranks are not connected; each would use the rewards of rank 0's rows.
    """
    state = PartialState(cpu=step.device == "cpu")
    if state.num_processes != step.world_size:
        raise StepFailed(f"{step.world_size} ranks were planned, but accelerate sees {state.num_processes}")
    return Ranks(state.process_index, state.num_processes, gather_object)
