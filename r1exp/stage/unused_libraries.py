"""Keeps installed libraries that a step does not use from being imported.

TRL 1.16 imports vLLM wherever it is installed, and accelerate 1.15 imports DeepSpeed when it unwraps a model:
seconds for every worker. Both call a function to learn whether the library is installed; it is replaced here.
tests/stage/test_unused_libraries.py fails where a later version finds out in another way.
"""

import accelerate.utils.other

from r1exp.distributed import uses_deepspeed
from r1exp.stage.config import StepConfig


def leave_out_unused(config: StepConfig) -> None:
    """Hide vLLM and DeepSpeed from a step that does not use them; called before TRL is imported."""
    if config.online is None or not config.rollout.uses_vllm:
        from trl import import_utils

        import_utils.is_vllm_available = _is_not_installed
    if not uses_deepspeed():
        accelerate.utils.other.is_deepspeed_available = _is_not_installed


def _is_not_installed(*args: object, **kwargs: object) -> bool:
    del args, kwargs
    return False
