"""Writes a run of one RL step for verl: its data, its rewards as verl's custom reward function, its settings and the command.

For models and clusters beyond DeepSpeed: 32B and more, mixtures of experts, long contexts. The names are those of verl 0.9.1
(verl.trainer.main_ppo). A setting without a counterpart is refused by name, so that what verl trains is what was composed.
Torch-free.
"""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from r1exp.algorithm.base import OnlineAlgorithm
from r1exp.errors import Refused
from r1exp.files import json_text, whole_folder, write_text
from r1exp.model.locate import locate
from r1exp.model.preview import template_change, token_counter
from r1exp.plan.batch import RlBatch
from r1exp.plan.steps import BASE, PlannedStep
from r1exp.prompt.chat import prompt_of
from r1exp.prompt.settings import PromptSettings
from r1exp.records import Problem

VERSION = "0.9.1"  # of verl
_ESTIMATORS = {"grpo": "grpo", "dr_grpo": "grpo", "dapo": "grpo", "gspo": "grpo", "ppo": "gae"}
_AGGREGATIONS = {"grpo": "seq-mean-token-mean", "dapo": "token-mean", "dr_grpo": "seq-mean-token-sum-norm"}
_SCHEDULES = ("constant", "cosine")
_CORRECTIONS = {"token_truncate": "token", "sequence_truncate": "sequence"}
_NO_DUAL_CLIP = 1e9  # verl clips ratios of negative advantages at this value; TRL does not
_PROMPT_ROOM = 8  # tokens beside those of the longest prompt
_REWARD_FILE = '''"""Scores completions with the committee of r1exp that committee.json describes."""

from r1exp.export.verl_reward import compute_score

__all__ = ["compute_score"]
'''


@dataclass(frozen=True)
class Cluster:
    """The machines that verl is to use."""

    nodes: int
    devices: int  # GPUs of a node


def export(step: PlannedStep, name: str, folder: Path, cluster: Cluster) -> str:
    """Write the files of a run and return the command that starts it.

    Args:
        step: The only step of the run.
        name: Of the run.
        folder: Is made, and must not exist.
        cluster: The machines.

    Raises:
        Refused: a setting has no counterpart in verl, or the folder exists.
    """
    if folder.exists():
        raise Refused(f"{folder} exists; name a new folder with output=DIR")
    _refuse(step)
    config = step.config
    train, held_out = (config.dataset.load(split) for split in ("train", "test"))
    change = template_change(config.model)
    if change is not None:
        raise Refused(
            f"verl uses the tokenizer's chat template as it is, and r1exp would not: {change}; export the artifact of a step "
            "of r1exp, whose tokenizer has the template that it was trained with"
        )
    held_out = held_out[: config.evaluation.num_problems]
    place = folder.resolve()
    settings = _settings(step, name, place, cluster, _longest_prompt(step, [*train, *held_out]))
    command = [
        "python3",
        "-m",
        "verl.trainer.main_ppo",
        *(f"{key}={_text(value)}" for key, value in settings.items()),
    ]
    with whole_folder(folder) as unfinished:
        _write_rows(train, config.prompt, name, unfinished / "train.parquet")
        _write_rows(held_out, config.prompt, name, unfinished / "val.parquet")
        members = {key: reward.model_dump(mode="json") for key, reward in (config.rewards or {}).items()}
        write_text(unfinished / "committee.json", json_text(members))
        write_text(unfinished / "reward.py", _REWARD_FILE)
        text = " \\\n  ".join([shlex.join(command[:3]), *map(shlex.quote, command[3:])])
        write_text(
            unfinished / "run.sh", f"#!/bin/sh\n# verl {VERSION}; written by r1exp export verl\n{text}\n"
        )
    return shlex.join(command)


def _refuse(step: PlannedStep) -> None:
    """Raise Refused for what verl has no counterpart of."""
    config, arguments = step.config, step.trainer_args
    algorithm = config.algorithm
    found = []
    if algorithm is None or algorithm.online is None or algorithm.kind not in _ESTIMATORS:
        kind = config.stage.kind if algorithm is None and config.stage else getattr(algorithm, "kind", "")
        raise Refused(
            f"{kind} has no counterpart in verl with the same loss; export takes stage=rl with algorithm="
            f"{', '.join(_ESTIMATORS)}"
        )
    if step.model_from != BASE or step.composed.data_from is not None:
        found.append("a step of a pipeline: export one step, stage=rl model.path=RUN")
    for member, reward in (config.rewards or {}).items():
        if (needed := reward.needs_beyond_one_text()) is not None:
            found.append(
                f"rewards.{member} needs {needed}, and verl gives a reward function one text at a time: leave it out"
            )
    if locate(config.model) is None:
        found.append("model=tiny is built by r1exp: name a hub id or a folder")
    if config.model.quantization is not None:
        found.append("model.quantization")
    if config.model.chat_template_kwargs:
        found.append("model.chat_template_kwargs")
    schedule = arguments["lr_scheduler_type"]
    if schedule not in _SCHEDULES:
        found.append(f"trainer.lr_scheduler_type={schedule}: verl has {' and '.join(_SCHEDULES)}")
    if arguments["mask_truncated_completions"]:
        found.append("trainer.mask_truncated_completions=true")
    if arguments["scale_rewards"] == "batch":
        found.append("trainer.scale_rewards=batch")
    if arguments["loss_type"] not in _AGGREGATIONS:
        found.append(f"trainer.loss_type={arguments['loss_type']}")
    if algorithm.online.kl.target is not None:
        found.append("algorithm.kl.target")
    if algorithm.kind != "ppo" and config.beta and arguments["use_bias_correction_kl"]:
        found.append("trainer.use_bias_correction_kl=true where beta > 0")
    if arguments.get("vllm_importance_sampling_correction"):
        mode = arguments["vllm_importance_sampling_mode"]
        if mode not in _CORRECTIONS:
            found.append(f"rollout.importance_correction.mode={mode}: verl has {', '.join(_CORRECTIONS)}")
    found += _unlike_verl_s_critic(algorithm.online) if algorithm.kind == "ppo" else []
    if found:
        raise Refused("this has no counterpart in verl: " + "; ".join(found))


def _unlike_verl_s_critic(algorithm: OnlineAlgorithm) -> list[str]:
    settings = algorithm.model_dump()
    found = []
    if settings["critic"]["kind"] != "separate":
        found.append(
            f"algorithm.critic.kind={settings['critic']['kind']}: verl's critic is a model of its own"
        )
    if not settings["whiten_advantages"]:
        found.append("algorithm.whiten_advantages=false: verl always whitens")
    if settings["value_clip"] is None:
        found.append("algorithm.value_clip=null: verl always clips values")
    return found


def _settings(
    step: PlannedStep, name: str, folder: Path, cluster: Cluster, prompt_length: int
) -> dict[str, Any]:
    """Return verl's settings: key -> value."""
    config, arguments, batch = step.config, step.trainer_args, step.batch
    assert isinstance(batch, RlBatch)
    assert config.algorithm is not None
    algorithm = config.algorithm.online
    assert algorithm is not None
    # verl counts updates of a whole generation batch, r1exp optimizer steps.
    per_update = batch.updates_per_batch
    num_updates = math.ceil(batch.num_steps / per_update)
    rows = max(1, batch.rows_per_device)
    found: dict[str, Any] = {
        "data.train_files": str(folder / "train.parquet"),
        "data.val_files": str(folder / "val.parquet"),
        "data.train_batch_size": batch.completions_per_generation // batch.num_generations,
        "data.max_prompt_length": prompt_length,
        "data.max_response_length": config.max_completion_length,
        "data.shuffle": arguments["shuffle_dataset"],
        "data.seed": config.seed,
        "data.trust_remote_code": config.model.trust_remote_code,
        "reward.custom_reward_function.path": str(folder / "reward.py"),
        "reward.custom_reward_function.name": "compute_score",
        "+reward.custom_reward_function.reward_kwargs.committee": str(folder / "committee.json"),
        "algorithm.adv_estimator": _ESTIMATORS[config.algorithm.kind],
    }
    found |= _model(step)
    actor = "actor_rollout_ref.actor."
    found |= _optimizer(f"{actor}optim.", arguments, num_updates, per_update, arguments["learning_rate"])
    high = arguments["epsilon_high"]
    found |= {
        f"{actor}ppo_mini_batch_size": batch.rows_per_step // batch.num_generations,
        f"{actor}ppo_micro_batch_size_per_gpu": rows,
        f"{actor}ppo_epochs": arguments["num_iterations"],
        f"{actor}grad_clip": arguments["max_grad_norm"],
        f"{actor}clip_ratio": arguments["epsilon"],
        f"{actor}clip_ratio_low": arguments["epsilon"],
        f"{actor}clip_ratio_high": arguments["epsilon"] if high is None else high,
        f"{actor}clip_ratio_c": _NO_DUAL_CLIP,
        f"{actor}loss_agg_mode": _AGGREGATIONS[arguments["loss_type"]],
        f"{actor}entropy_coeff": 0,
        f"{actor}data_loader_seed": config.seed,
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": rows,
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": rows,
        "actor_rollout_ref.rollout.n": batch.num_generations,
        "actor_rollout_ref.rollout.temperature": arguments["temperature"],
        "actor_rollout_ref.rollout.top_p": arguments["top_p"],
        "actor_rollout_ref.rollout.top_k": arguments["top_k"] or -1,
        "actor_rollout_ref.rollout.tensor_model_parallel_size": 1,
        "actor_rollout_ref.rollout.val_kwargs.temperature": config.evaluation.temperature,
        "actor_rollout_ref.rollout.val_kwargs.top_p": config.evaluation.top_p,
        "actor_rollout_ref.rollout.val_kwargs.n": max(1, config.evaluation.samples),
        "actor_rollout_ref.rollout.val_kwargs.do_sample": config.evaluation.samples > 0,
    }
    if arguments["loss_type"] == "dr_grpo":
        found[f"{actor}loss_scale_factor"] = config.max_completion_length
    if arguments["importance_sampling_level"] == "sequence":
        found[f"{actor}policy_loss.loss_mode"] = "gspo"
    if arguments.get("vllm_importance_sampling_correction"):
        found["algorithm.rollout_correction.rollout_is"] = _CORRECTIONS[
            arguments["vllm_importance_sampling_mode"]
        ]
        found["algorithm.rollout_correction.rollout_is_threshold"] = arguments[
            "vllm_importance_sampling_clip_max"
        ]
    found |= _advantages(step, num_updates, per_update, rows)
    return found | {
        "trainer.nnodes": cluster.nodes,
        "trainer.n_gpus_per_node": cluster.devices,
        "trainer.total_training_steps": num_updates,
        "trainer.total_epochs": math.ceil(batch.num_steps / (batch.steps_per_epoch or batch.num_steps)),
        "trainer.save_freq": max(1, round(arguments["save_steps"] / per_update)),
        "trainer.test_freq": -1,
        "trainer.val_before_train": config.evaluation.before,
        "trainer.project_name": "r1exp",
        "trainer.experiment_name": name,
        "trainer.default_local_dir": str(folder / "checkpoints"),
    }


def _model(step: PlannedStep) -> dict[str, Any]:
    model, arguments = step.config.model, step.trainer_args
    prefix = "actor_rollout_ref.model."
    place = locate(model)
    found = {
        f"{prefix}path": str(place.resolve()) if isinstance(place, Path) else place,
        f"{prefix}trust_remote_code": model.trust_remote_code,
        f"{prefix}enable_gradient_checkpointing": arguments["gradient_checkpointing"],
    }
    if model.attn_implementation is not None:
        found[f"+{prefix}override_config.attn_implementation"] = model.attn_implementation
    if model.lora.r:
        found[f"{prefix}lora_rank"] = model.lora.r
        found[f"{prefix}lora_alpha"] = model.lora.alpha
        targets = model.lora.target_modules
        found[f"{prefix}target_modules"] = targets if isinstance(targets, str) else list(targets)
    return found


def _optimizer(
    prefix: str, arguments: Mapping[str, Any], num_updates: int, per_update: int, rate: float
) -> dict[str, Any]:
    return {
        f"{prefix}lr": rate,
        f"{prefix}lr_scheduler_type": arguments["lr_scheduler_type"],
        f"{prefix}lr_warmup_steps": round(arguments["warmup_steps"] / per_update),
        f"{prefix}total_training_steps": num_updates,
        f"{prefix}weight_decay": arguments["weight_decay"],
    }


def _advantages(step: PlannedStep, num_updates: int, per_update: int, rows: int) -> dict[str, Any]:
    """Return what turns rewards into advantages, and the KL penalty."""
    config, arguments = step.config, step.trainer_args
    assert config.algorithm is not None
    settings = config.algorithm.model_dump()
    beta = config.beta or 0.0
    if config.algorithm.kind != "ppo":
        rounds = settings.get("resampling_rounds", 0)
        return {
            "algorithm.norm_adv_by_std_in_grpo": arguments["scale_rewards"] == "group",
            "algorithm.use_kl_in_reward": False,
            "algorithm.filter_groups.enable": rounds > 0,
            "algorithm.filter_groups.metric": "reward",
            "algorithm.filter_groups.max_num_gen_batches": rounds + 1 if rounds else 0,
            "actor_rollout_ref.actor.use_kl_loss": beta > 0,
            "actor_rollout_ref.actor.kl_loss_coef": beta,
            "actor_rollout_ref.actor.kl_loss_type": "low_var_kl",
        }
    critic = settings["critic"]
    path = critic["path"] or str(_model(step)["actor_rollout_ref.model.path"])
    return {
        "algorithm.gamma": settings["gamma"],
        "algorithm.lam": settings["gae_lambda"],
        "algorithm.use_kl_in_reward": beta > 0,
        "algorithm.kl_penalty": "kl",
        "algorithm.kl_ctrl.kl_coef": beta,
        "critic.model.path": path,
        "critic.cliprange_value": settings["value_clip"],
        "critic.ppo_micro_batch_size_per_gpu": rows,
    } | _optimizer("critic.optim.", arguments, num_updates, per_update, critic["learning_rate"])


def _longest_prompt(step: PlannedStep, problems: Sequence[Problem]) -> int:
    """Return the tokens of the longest prompt.

    Raises:
        Refused: the tokenizer is not on this machine.
    """
    count = token_counter(step.config.model)
    if count is None:
        raise Refused(
            "the tokenizer of the model is not on this machine, so that the longest prompt is not known; download it first"
        )
    return max(count(prompt_of(problem, step.config.prompt)) for problem in problems) + _PROMPT_ROOM


def _write_rows(problems: Sequence[Problem], prompt: PromptSettings, name: str, path: Path) -> None:
    """Write problems in verl's columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "data_source": name,
            "prompt": prompt_of(problem, prompt),
            "ability": "r1exp",
            "reward_model": {"style": "rule", "ground_truth": problem.answer or ""},
            "extra_info": {"index": number, "problem": json.dumps(asdict(problem), ensure_ascii=False)},
        }
        for number, problem in enumerate(problems)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def _text(value: Any) -> str:
    """Return a value in the grammar of Hydra's overrides."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "True", False: "False"}[value]
    if isinstance(value, list):
        return "[" + ",".join(map(str, value)) + "]"
    return str(value)
