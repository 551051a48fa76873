"""The algorithms that `algorithm.kind` can name. To add one, write its file and add a line here."""

from typing import Annotated

from r1exp.algorithm.base import Algorithm
from r1exp.registry import Registry

ALGORITHMS: Registry[Algorithm] = Registry(
    "algorithm",
    Algorithm,
    {
        "cispo": "r1exp.algorithm.grpo:Grpo",
        "dapo": "r1exp.algorithm.grpo:Grpo",
        "dpo": "r1exp.algorithm.dpo:Dpo",
        "dr_grpo": "r1exp.algorithm.grpo:Grpo",
        "grpo": "r1exp.algorithm.grpo:Grpo",
        "gspo": "r1exp.algorithm.grpo:Grpo",
        "ipo": "r1exp.algorithm.dpo:Dpo",
        "kto": "r1exp.algorithm.kto:Kto",
        "ppo": "r1exp.algorithm.ppo:Ppo",
        "reinforce_pp": "r1exp.algorithm.reinforce_pp:ReinforcePp",
        "reinforce_pp_baseline": "r1exp.algorithm.reinforce_pp:ReinforcePpBaseline",
        "rloo": "r1exp.algorithm.rloo:Rloo",
        "sapo": "r1exp.algorithm.grpo:Grpo",
        "simpo": "r1exp.algorithm.simpo:Simpo",
    },
)
AlgorithmSettings = Annotated[Algorithm, ALGORITHMS]
