"""The stages that `stage.kind` can name. To add one, write its files and add a line here."""

from typing import Annotated

from r1exp.registry import Registry
from r1exp.stage.base import Stage

STAGES: Registry[Stage] = Registry(
    "stage",
    Stage,
    {
        "distil": "r1exp.stage.distil:Distil",
        "evaluate": "r1exp.stage.evaluate:Evaluate",
        "filter": "r1exp.stage.filter:Filter",
        "generate": "r1exp.stage.generate:Generate",
        "preferences": "r1exp.stage.preferences:Preferences",
        "reward_model": "r1exp.stage.reward_model:RewardModel",
        "rl": "r1exp.stage.rl:Rl",
        "sample": "r1exp.stage.sample:Sample",
        "sft": "r1exp.stage.sft:Sft",
    },
)
StageSettings = Annotated[Stage, STAGES]
