"""Prevents the import of installed libraries that a step does not use.

TRL 1.16 imports vLLM, wandb, trackio and mlflow if they are installed, and accelerate 1.15 imports DeepSpeed when it unwraps a
model, which takes seconds in every worker. They call a function that checks whether the library is installed; this module
replaces it. Trackers of r1exp import their own library, in a thread.
tests/stage/test_unused_libraries.py fails if a later version checks in another way.
"""

import accelerate.utils.other
from transformers.integrations import integration_utils

from r1exp.distributed import uses_deepspeed
from r1exp.stage.config import StepConfig


def leave_out_unused(config: StepConfig) -> None:
    """Hide vLLM and DeepSpeed from a step that does not use them, and trackers from TRL; called before TRL is imported."""
    leave_out(
        uses_vllm=config.online is not None and config.rollout.uses_vllm, uses_deepspeed=uses_deepspeed()
    )


def leave_out(*, uses_vllm: bool, uses_deepspeed: bool) -> None:
    """Hide trackers from TRL, and libraries that are not used."""
    accelerate.utils.is_wandb_available = _is_not_installed
    for tracker in ("wandb", "trackio", "mlflow"):
        setattr(integration_utils, f"is_{tracker}_available", _is_not_installed)
    if not uses_vllm:
        from trl import import_utils

        import_utils.is_vllm_available = _is_not_installed
    if not uses_deepspeed:
        accelerate.utils.other.is_deepspeed_available = _is_not_installed


def _is_not_installed(*args: object, **kwargs: object) -> bool:
    del args, kwargs
    return False
