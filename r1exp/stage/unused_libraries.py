"""Which installed libraries does this step not use? They must cost it nothing.

TRL 1.16 imports vLLM wherever it finds it, and accelerate 1.15 imports DeepSpeed when it unwraps a
model: seconds for every worker. Both ask a function whether the library is there, and here it says
no. tests/stage/test_lean.py fails where a later version asks another way.
"""

import os

import accelerate.utils.other

from r1exp.rollout.settings import HfRollout
from r1exp.stage.config import StepConfig


def leave_out_unused(config: StepConfig) -> None:
    """Hide vLLM and DeepSpeed from a step that does without; called before TRL is imported."""
    if config.online is None or isinstance(config.rollout, HfRollout):
        from trl import import_utils

        import_utils.is_vllm_available = _not_here
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") != "true":
        accelerate.utils.other.is_deepspeed_available = _not_here


def _not_here(*args: object, **kwargs: object) -> bool:
    del args, kwargs
    return False
