"""Computes the arguments of a trainer's dataclass from a step's settings.

`trainer:` is passed on unchanged; each other argument comes from the one key that sets it
(`r1exp.algorithm.trainer_fields.OWNED`). The worker adds only the folder of its checkpoints and, with a vLLM server,
the address of the server.
"""

from typing import Any

from r1exp.algorithm.trainer_fields import fields_of
from r1exp.launcher.base import Device
from r1exp.plan.batch import Batch, RlBatch
from r1exp.stage.config import StepConfig


def trainer_args(config: StepConfig, batch: Batch, device: Device) -> dict[str, Any]:
    """Return the arguments of the trainer's dataclass.

    Args:
        config: Settings of a step that trains.
        batch: Batch of the same step.
        device: Device on which it trains.
    """
    assert config.stage is not None
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
        "trust_remote_code": config.model.trust_remote_code,
        "report_to": "none",  # r1exp.tracking writes the rows
        "disable_tqdm": True,  # the parent process draws the progress bar
        "logging_nan_inf_filter": False,  # r1exp's guards must see values that are not finite
        "dataloader_pin_memory": device == "cuda",
        **config.stage.trainer_arguments(config),
    }
    if isinstance(batch, RlBatch):
        algorithm = config.online
        assert algorithm is not None and config.rewards is not None
        arguments |= {
            "num_generations": config.num_generations,
            "steps_per_generation": batch.steps_per_generation,
            "temperature": config.temperature,
            "max_completion_length": config.max_completion_length,
            "remove_unused_columns": False,  # rewards read the other columns
            "reward_weights": [reward.weight for reward in config.rewards.values()],
            **config.rollout.trainer_arguments(fields_of(algorithm.trainer_config)),
        }
    return arguments
