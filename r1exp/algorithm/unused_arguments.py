"""The arguments of TRL's dataclasses that would change nothing here, or break a promise of r1exp, and why.

They are refused, because an argument that is accepted and does nothing makes an experiment say what it is not.
"""

from collections.abc import Mapping
from typing import Any

_EVALUATION = "has no effect: r1exp evaluates in steps of their own; set evaluation.*"
_HUB = "uploads nothing: leave it out and upload the artifact folder with the hub's command line"
_TRACKIO = "is read by TRL's own reporting, which r1exp replaces; set tracking"
_MODEL = "is read where TRL loads a model, and r1exp loads it itself; set model.*"
_ONLINE = ("GRPOConfig", "RLOOConfig")
_SAMPLING = (*_ONLINE, "DistillationConfig")

# Argument -> why it is refused, of every trainer.
UNUSED: dict[str, str] = {
    **dict.fromkeys(
        (
            "batch_eval_metrics",
            "bf16_full_eval",
            "do_eval",
            "eval_accumulation_steps",
            "eval_delay",
            "eval_do_concat_batches",
            "eval_on_start",
            "eval_packing",
            "eval_steps",
            "eval_strategy",
            "eval_use_gather_object",
            "fp16_full_eval",
            "greater_is_better",
            "include_for_metrics",
            "label_names",
            "load_best_model_at_end",
            "metric_for_best_model",
            "num_generations_eval",
            "per_device_eval_batch_size",
            "prediction_loss_only",
        ),
        _EVALUATION,
    ),
    **dict.fromkeys(
        (
            "hub_always_push",
            "hub_model_id",
            "hub_private_repo",
            "hub_revision",
            "hub_strategy",
            "hub_token",
            "log_completions_hub_repo",
        ),
        _HUB,
    ),
    **dict.fromkeys(("trackio_bucket_id", "trackio_space_id", "trackio_static_space_id"), _TRACKIO),
    "model_init_kwargs": _MODEL,
    "do_train": "has no effect: a step trains if its stage does; leave it out",
    "do_predict": "has no effect: for answers of a model, type stage=sample or stage=evaluate",
    "local_rank": "is set by the launcher; leave it out, and set launcher.num_processes for more ranks",
    "log_on_each_node": "has no effect: every rank has its own log; leave it out",
    "max_tool_calling_iterations": "has no effect: r1exp gives the model no tools to call; leave it out",
    "log_multimodal": "has no effect: prompts are texts; leave it out",
    "dataset_text_field": "has no effect: rows are prompts and completions; name the columns in dataset",
    "dataloader_pin_memory": "is set by r1exp from the device; leave it out",
    "restore_callback_states_from_checkpoint": "has no effect: r1exp restores its callbacks by itself; leave it out",
    "auto_find_batch_size": "would change the batch that was planned; set model.rows_per_device.sft or .rl",
    "enable_jit_checkpoint": "may save at different steps on two ranks; leave it out: r1exp saves when it is told to stop",
    **dict.fromkeys(
        ("use_transformers_continuous_batching", "use_transformers_paged"),
        "would convert the weights that are trained to the compute dtype at each generation (TRL 1.16); leave it out, and "
        "use rollout=vllm_colocate for faster generation",
    ),
    "transformers_continuous_batching_config": "is read only by continuous batching, which is refused; leave it out",
    "save_only_model": "leaves no checkpoint from which a run goes on exactly; leave it out",
}
# Argument -> the trainers that ignore it, and why.
_UNUSED_BY: dict[str, tuple[tuple[str, ...], str]] = {
    "label_smoothing_factor": (
        (*_SAMPLING, "DPOConfig", "KTOConfig", "RewardConfig"),
        "has no effect on this loss; leave it out (algorithm=dpo has trainer.label_smoothing)",
    ),
    "length_column_name": (
        (*_SAMPLING, "KTOConfig"),
        "has no effect: rows are drawn in an order of r1exp's or TRL's own; leave it out",
    ),
    "train_sampling_strategy": (_SAMPLING, "has no effect: prompts are drawn in groups; leave it out"),
    "ddp_backend": (
        _SAMPLING,
        "has no effect: the ranks are connected before the trainer exists; leave it out",
    ),
}
_WITHOUT_RANGE = ("cispo", "sapo", "vespo")  # losses of TRL 1.16 that do not read `epsilon`
# Argument -> the argument, and its value, without which it is not read.
_NEEDS: dict[str, tuple[str, Any]] = {
    **dict.fromkeys(("sapo_temperature_neg", "sapo_temperature_pos"), ("loss_type", "sapo")),
    **dict.fromkeys(
        ("vespo_k_neg", "vespo_k_pos", "vespo_lambda_neg", "vespo_lambda_pos"), ("loss_type", "vespo")
    ),
    **dict.fromkeys(
        ("entropy_coef_delta", "entropy_coef_max", "entropy_coef_min", "entropy_target"),
        ("use_adaptive_entropy", True),
    ),
    **dict.fromkeys(("ref_model_mixup_alpha", "ref_model_sync_steps"), ("sync_ref_model", True)),
    **dict.fromkeys(("log_unique_prompts", "num_completions_to_print"), ("log_completions", True)),
    "liger_kernel_config": ("use_liger_kernel", True),
    "packing_strategy": ("packing", True),
}


def why_unused(trainer_class: str, key: str, arguments: Mapping[str, Any]) -> str | None:
    """Return why an argument of a trainer would change nothing or break something, and what to type; None: it is read.

    Args:
        trainer_class: Name of TRL's dataclass.
        key: The argument.
        arguments: All arguments that are given.
    """
    if key in UNUSED:
        return UNUSED[key]
    classes, reason = _UNUSED_BY.get(key, ((), ""))
    if trainer_class in classes:
        return reason
    if key == "epsilon" and arguments.get("loss_type") in _WITHOUT_RANGE and arguments[key] is not None:
        return f"is not read by trainer.loss_type={arguments['loss_type']}, which does not clip at 1 - epsilon; leave it out"
    if key == "epsilon_high" and arguments.get("loss_type") == "sapo" and arguments[key] is not None:
        return "is not read by trainer.loss_type=sapo, which does not clip; leave it out"
    if key == "save_strategy" and arguments[key] == "best":
        return "is best, which saves after an evaluation by TRL, and there is none; set trainer.save_steps"
    if key in _NEEDS:
        other, value = _NEEDS[key]
        if arguments.get(other) != value:
            shown = str(value).lower()
            return f"is read only with trainer.{other}={shown}; add that, or leave it out"
    return None
