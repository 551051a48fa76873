"""The rollouts that `rollout.kind` can name. To add one, write its file and add a line here."""

from typing import Annotated

from r1exp.registry import Registry
from r1exp.rollout.base import Rollout

ROLLOUTS: Registry[Rollout] = Registry(
    "rollout",
    Rollout,
    {
        "endpoint": "r1exp.rollout.settings:Endpoint",
        "hf": "r1exp.rollout.settings:HfRollout",
        "vllm_colocate": "r1exp.rollout.settings:VllmColocate",
        "vllm_server": "r1exp.serving.settings:VllmServer",
    },
)
RolloutSettings = Annotated[Rollout, ROLLOUTS]
