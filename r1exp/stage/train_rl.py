"""Reinforcement learning with the composed algorithm, rewards and rollout."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback
from trl import DPOConfig, GRPOConfig, RLOOConfig

from r1exp.algorithm import trainers
from r1exp.algorithm.critic import Critic, separate_critic, shared_critic
from r1exp.algorithm.dynamic_sampling import DynamicSampling
from r1exp.algorithm.kl_controller import KlController
from r1exp.algorithm.kl_trainer import TRACKED_ZERO, tracked
from r1exp.algorithm.ppo import Ppo, PpoConfig, PpoOptions
from r1exp.algorithm.settings import Dpo as DpoSettings
from r1exp.algorithm.settings import Grpo as GrpoSettings
from r1exp.algorithm.settings import Ppo as PpoSettings
from r1exp.errors import Refused, StepFailed
from r1exp.launcher.command import free_port
from r1exp.model.load import load_policy, load_tokenizer, peft_config
from r1exp.model.scorer import open_reward_model
from r1exp.model.settings import ModelSettings
from r1exp.prompt.chat import messages
from r1exp.rewards.adapter import reward_funcs
from r1exp.rewards.committee import Committee
from r1exp.rewards.ranks import Ranks
from r1exp.rollout.settings import VllmColocate
from r1exp.stage.context_length import refuse_beyond_context
from r1exp.stage.pair_rows import pair_row
from r1exp.stage.step import Step
from r1exp.stage.training import train
from r1exp.step.checkpoints import last_checkpoint


def rl(step: Step, folder: Path) -> str | None:
    """Train, save the model in `artifact/`, and return the W&B id."""
    tokenizer = load_tokenizer(step.model_path, step.config.model)
    build = dpo if isinstance(step.config.algorithm, DpoSettings) else online

    def make_trainer(output: Path, callbacks: list[TrainerCallback]) -> Trainer:
        with _engine_of(step):
            return build(step, output, tokenizer, callbacks, lambda: last_checkpoint(folder))

    return train(step, folder, tokenizer, make_trainer)


def _engine_of(step: Step) -> AbstractContextManager[None]:
    """Return the context in which TRL builds a vLLM engine as the step's rollout says."""
    config = step.config
    if config.online is None or not isinstance(config.rollout, VllmColocate):
        return nullcontext()
    from r1exp.rollout.vllm import colocated

    return colocated(config.rollout, config.model, step.device, config.seed)


LastCheckpoint = Callable[[], Path | None]


def online(
    step: Step,
    output: Path,
    tokenizer: PreTrainedTokenizerBase,
    callbacks: list[TrainerCallback],
    last: LastCheckpoint,
) -> Trainer:
    """Return the trainer of an algorithm that samples from the policy."""
    config = step.config
    algorithm = config.online
    assert algorithm is not None and config.rewards is not None and config.beta is not None
    committee = Committee(config.rewards, openers={"reward_model": open_reward_model})
    problems = config.dataset.load("train")
    _refuse_too_few(len(problems), step)
    refuse_beyond_context(problems, step)
    common: dict[str, Any] = {
        "model": load_policy(step.model_path, config.model),
        "reward_funcs": reward_funcs(committee, _ranks(step)),
        "train_dataset": Dataset.from_list([p.to_row(messages(p.prompt, config.prompt)) for p in problems]),
        "processing_class": tokenizer,
        "callbacks": callbacks,
        "peft_config": peft_config(config.model),
        "kl": KlController(algorithm.kl, config.beta),
        "last_checkpoint": last,
    }
    arguments = {**step.trainer_args, "output_dir": str(output), "reward_weights": committee.weights}
    arguments |= _of_reference(config.model)
    arguments["beta"] = tracked(config.beta, algorithm.track_kl)
    if step.server is not None:  # the port is where rank 0 meets the server to hand it weights
        arguments |= {"vllm_server_base_url": step.server, "vllm_group_port": free_port()}
    if isinstance(algorithm, PpoSettings):
        return _ppo(algorithm, step, tokenizer, arguments, common)
    if isinstance(algorithm, GrpoSettings):
        if algorithm.resampling_rounds == 0:
            return trainers.Grpo(args=GRPOConfig(**arguments), **common)
        return DynamicSampling(args=GRPOConfig(**arguments), max_rounds=algorithm.resampling_rounds, **common)
    return trainers.Rloo(args=RLOOConfig(**arguments), **common)


def _ppo(
    algorithm: PpoSettings,
    step: Step,
    tokenizer: PreTrainedTokenizerBase,
    arguments: dict[str, Any],
    common: dict[str, Any],
) -> Ppo:
    critic = algorithm.critic

    def make_critic(policy: PreTrainedModel) -> Critic:
        if critic.kind == "separate":
            revision = step.config.model.revision if critic.path is None else None
            return separate_critic(critic.path or step.model_path, revision, tokenizer, policy.dtype)
        return shared_critic(policy)

    if arguments["beta"] != 0.0:
        arguments["beta"] = TRACKED_ZERO  # the controller's beta is paid with the reward
    return Ppo(
        args=PpoConfig(**arguments),
        critic=None if critic.kind == "zero" else make_critic,
        options=PpoOptions(
            gamma=algorithm.gamma,
            lam=algorithm.gae_lambda,
            value_coefficient=algorithm.value_coefficient,
            value_clip=algorithm.value_clip,
            whiten_advantages=algorithm.whiten_advantages,
            critic_learning_rate=critic.learning_rate,
        ),
        **common,
    )


def dpo(
    step: Step,
    output: Path,
    tokenizer: PreTrainedTokenizerBase,
    callbacks: list[TrainerCallback],
    last: LastCheckpoint,
) -> Trainer:
    """Return the trainer that learns from preference pairs."""
    config = step.config
    pairs = [pair_row(problem, config.prompt) for problem in config.dataset.load("train")]
    return trainers.Dpo(
        model=load_policy(step.model_path, config.model),
        args=DPOConfig(**step.trainer_args, **_of_reference(config.model), output_dir=str(output)),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
        callbacks=callbacks,
        peft_config=peft_config(config.model),
        last_checkpoint=last,
    )


def _of_reference(model: ModelSettings) -> dict[str, Any]:
    """Return the arguments by which TRL loads the reference from where the policy came from; the policy has no use for them."""
    return {} if model.revision is None else {"model_init_kwargs": {"revision": model.revision}}


def _refuse_too_few(num_problems: int, step: Step) -> None:
    """Refuse what the plan could not count, because an earlier step was still to make it."""
    sizes = (step.trainer_args[name] for name in ("per_device_train_batch_size", "steps_per_generation"))
    needed = step.world_size * math.prod(sizes) // step.trainer_args["num_generations"]
    if num_problems < needed:
        raise Refused(
            f"the data has {num_problems} prompts, fewer than the {needed} of one generation batch; sample more "
            "(stage.num_problems of the step that samples), or lower algorithm.prompts_per_step"
        )


def _ranks(step: Step) -> Ranks:
    """Return this rank among the others, as rewards see them.

    Raises:
        StepFailed: the ranks do not know of each other yet; each would take the rewards of rank 0's rows.
    """
    state = PartialState(cpu=step.device == "cpu")
    if state.num_processes != step.world_size:
        raise StepFailed(f"{step.world_size} ranks were promised, but accelerate sees {state.num_processes}")
    return Ranks(state.process_index, state.num_processes, gather_object)
