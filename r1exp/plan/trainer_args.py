"""Everything the trainer's dataclass is given, worked out from a step's settings.

`trainer:` passes through untouched; the rest comes from the one key that owns it
(`r1exp.algorithm.trainer_fields.OWNED`).
"""

from typing import Any, Literal

from r1exp.plan.batch import Batch, RlBatch
from r1exp.serving.trainer_arguments import vllm_arguments
from r1exp.stage.config import StepConfig
from r1exp.stage.kinds import Rl, Sft


def trainer_args(config: StepConfig, batch: Batch, device: Literal["cpu", "cuda"]) -> dict[str, Any]:
    """Return the arguments of the trainer's dataclass, complete but for `output_dir`."""
    arguments: dict[str, Any] = {
        **config.trainer,
        "learning_rate": config.learning_rate,
        "max_steps": batch.num_steps,
        "seed": config.seed,
        "per_device_train_batch_size": batch.rows_per_device,
        "gradient_accumulation_steps": batch.accumulation,
        "use_cpu": device == "cpu",
        "bf16": config.model.compute_dtype == "bfloat16",
        "fp16": config.model.compute_dtype == "float16",
        "report_to": "none",  # r1exp.tracking writes the rows
        "disable_tqdm": True,  # the parent draws the bar
        "logging_nan_inf_filter": False,  # a guard must see what happened
        "dataloader_pin_memory": device == "cuda",
    }
    if isinstance(config.stage, Sft):
        arguments["completion_only_loss"] = config.stage.completion_only
    if isinstance(config.stage, Rl):
        arguments["beta"] = config.beta
    if isinstance(batch, RlBatch):
        arguments |= {
            "num_generations": config.num_generations,
            "steps_per_generation": batch.steps_per_generation,
            "temperature": config.temperature,
            "max_completion_length": config.max_completion_length,
            "remove_unused_columns": False,  # rewards read the other columns
            **vllm_arguments(config),
        }
    return arguments
