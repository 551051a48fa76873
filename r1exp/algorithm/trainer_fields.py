"""Checks trainer arguments against the names and types of TRL's dataclasses, without importing torch.

`trainer_fields.json` is generated from the installed TRL by `python -m r1exp.algorithm.trainer_fields`.
A test compares it with the installed version, so that an outdated file is detected.
"""

import json
import types
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from r1exp.algorithm.unused_arguments import UNUSED, why_unused
from r1exp.files import write_json
from r1exp.settings import nearest
from r1exp.terminal import say

_FILE = Path(__file__).with_suffix(".json")
_CLASSES = (
    "SFTConfig",
    "GRPOConfig",
    "RLOOConfig",
    "DPOConfig",
    "KTOConfig",
    "RewardConfig",
    "DistillationConfig",
)
_TYPES: dict[str, Any] = {
    "bool": bool, "int": int, "float": float, "str": str, "dict": dict[str, Any], "list": list[Any], "null": None,
}  # fmt: skip


# Arguments that r1exp sets itself, and the key to type instead.
OWNED: dict[str, str] = {
    "learning_rate": "learning_rate",
    "max_steps": "max_steps",
    "num_train_epochs": "max_steps",
    "beta": "beta",
    "num_generations": "num_generations",
    "temperature": "temperature",
    "max_completion_length": "max_completion_length",
    "seed": "seed",
    "data_seed": "seed",
    "per_device_train_batch_size": "model.rows_per_device.sft or .rl, with algorithm.prompts_per_step or stage.rows_per_step",
    "gradient_accumulation_steps": "algorithm.prompts_per_step or stage.rows_per_step",
    "generation_batch_size": "algorithm.prompts_per_step and algorithm.minibatches",
    "steps_per_generation": "algorithm.minibatches",
    "completion_only_loss": "stage.completion_only",
    "assistant_only_loss": "stage.completion_only and stage.chat_turns",
    "reward_weights": "rewards.NAME.weight",
    "output_dir": "paths.run",
    "run_name": "name",
    "chat_template_kwargs": "model.chat_template_kwargs",  # there, evaluation and sampling read it as well
    "teacher_model_name_or_path": "stage.teacher",
    "teacher_model_revision": "stage.teacher to a folder of that revision",
    "teacher_model_init_kwargs": "stage.teacher and model.*",
    "report_to": "tracking",
    "project": "tracking.project",
    "trust_remote_code": "model.trust_remote_code",
    "use_cpu": "launcher.device",
    "bf16": "model.compute_dtype",
    "fp16": "model.compute_dtype",
    "deepspeed": "launcher",
    "fsdp": "launcher",
    "fsdp_config": "launcher",
    "use_vllm": "rollout",
    "vllm_mode": "rollout",
    "vllm_model_impl": "rollout",
    "vllm_enable_sleep_mode": "rollout.sleep",
    "vllm_server_base_url": "rollout.host and rollout.port",
    "vllm_server_host": "rollout.host",
    "vllm_server_port": "rollout.port",
    "vllm_server_timeout": "rollout.start_timeout",
    "vllm_group_port": "rollout",
    "vllm_gpu_memory_utilization": "rollout.gpu_memory_utilization",
    "vllm_max_model_length": "rollout.max_model_length",
    "vllm_tensor_parallel_size": "rollout.tensor_parallel_size",
    "vllm_importance_sampling_correction": "rollout.importance_correction",
    "vllm_importance_sampling_mode": "rollout.importance_correction.mode",
    "vllm_importance_sampling_clip_max": "rollout.importance_correction.clip_max",
    "vllm_importance_sampling_clip_min": "rollout.importance_correction.clip_min",
    "vllm_importance_sampling_cap": "rollout.importance_correction.clip_max",
    "resume_from_checkpoint": "nothing and run the same command again, which resumes by itself",
    "logging_nan_inf_filter": "health",
    "disable_tqdm": "tracking",
    "remove_unused_columns": "dataset",
    "push_to_hub": "nothing and upload the artifact folder with the hub's command line",
}


# Arguments that change no result: when a checkpoint is saved and a row is logged, what is shown, how long a rank waits for
# another, and whether activations are computed twice, which is in the part of the key for what shifts the last digits (`r1exp.plan.steps`).
OUTSIDE_KEY = frozenset(
    {
        "save_steps",
        "save_strategy",
        "save_total_limit",
        "logging_steps",
        "logging_strategy",
        "logging_first_step",
        "log_level",
        "log_level_replica",
        "log_on_each_node",
        "log_completions",
        "num_completions_to_print",
        "log_unique_prompts",
        "dataloader_num_workers",
        "dataloader_prefetch_factor",
        "dataloader_persistent_workers",
        "gradient_checkpointing",
        "gradient_checkpointing_kwargs",
        "ddp_timeout",
    }
)

# Of these, the arguments that decide which rows are logged, and so what a health rule that can stop a step sees.
LOGGED_ROWS = ("logging_steps", "logging_strategy", "logging_first_step")


@cache
def fields_of(trainer_class: str) -> dict[str, list[str]]:
    """Return a mapping from field name to accepted types of a trainer's dataclass."""
    table: dict[str, dict[str, list[str]]] = json.loads(_FILE.read_text(encoding="utf-8"))
    return table[trainer_class]


def every_field() -> set[str]:
    """Return the names of the fields of all trainers."""
    return {name for trainer_class in _CLASSES for name in fields_of(trainer_class)}


def usable_fields() -> set[str]:
    """Return the names of the fields that can be given as `trainer.NAME` to some trainer."""
    return every_field() - OWNED.keys() - UNUSED.keys()


def complaints(trainer_class: str, arguments: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (key, what is wrong and what to type) for each argument that the trainer does not accept."""
    known = fields_of(trainer_class)
    found = []
    for key, value in arguments.items():
        if key in OWNED:
            found.append((key, f"is controlled by r1exp; set {OWNED[key]}"))
        elif key not in known:
            close = nearest(key, known.keys() - OWNED.keys())
            hint = f"; did you mean trainer.{close[0]}?" if close else ""
            found.append((key, f"is not an argument of TRL's {trainer_class}{hint}"))
        elif (reason := why_unused(trainer_class, key, arguments)) is not None:
            found.append((key, reason))
        elif not _accepts(known[key], value):
            found.append((key, f"is {value!r}, but {trainer_class}.{key} takes {' or '.join(known[key])}"))
    return found


def _accepts(type_names: list[str], value: Any) -> bool:
    if "any" in type_names:
        return True
    config = ConfigDict(strict=True, allow_inf_nan=False)
    if isinstance(value, str) and f"={value}" in type_names:
        return True
    for name in type_names:
        if name.startswith("="):
            continue
        try:
            TypeAdapter(_TYPES[name], config=config).validate_python(value)
        except ValidationError:
            continue
        return True
    return False


def _names_of(annotation: Any) -> list[str]:
    """Return the JSON types that an annotation allows, or `=value` for each member of an enumeration."""
    if get_origin(annotation) in (Union, types.UnionType):
        names = {name for part in get_args(annotation) for name in _names_of(part)}
        if any(name.startswith("=") for name in names):
            names.discard("str")  # `SchedulerType | str`: only the members are accepted
        return sorted(names)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [f"={member.value}" for member in annotation]
    origin = get_origin(annotation) or annotation
    for name, kind in (
        ("bool", bool),
        ("int", int),
        ("float", float),
        ("str", str),
        ("dict", dict),
        ("list", list),
    ):
        if isinstance(origin, type) and issubclass(origin, kind):
            return [name]
    return ["null"] if annotation is type(None) else ["any"]


def generate() -> dict[str, dict[str, list[str]]]:
    """Return the table of the installed dataclasses. Imports TRL, and so torch."""
    import dataclasses
    import typing

    import trl

    table = {}
    for name in _CLASSES:
        hints = typing.get_type_hints(getattr(trl, name))
        table[name] = {
            field.name: _names_of(hints[field.name])
            for field in dataclasses.fields(getattr(trl, name))
            if field.init
        }
    return table


if __name__ == "__main__":
    write_json(_FILE, generate())
    say(f"wrote {_FILE}")
