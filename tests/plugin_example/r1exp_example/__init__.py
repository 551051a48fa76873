"""A package that adds options to r1exp. r1exp finds `plugin` through the entry point in pyproject.toml."""

from pathlib import Path

from r1exp.plugins import Plugin

plugin = Plugin(
    conf=Path(__file__).parent / "conf",
    kinds={
        "dataset": {"subtraction": "r1exp_example.data:Subtraction"},
        "prompt": {"work_result": "r1exp_example.style:WORK_RESULT"},
        "rewards": {"near": "r1exp_example.reward:Near"},
        "algorithm": {"rank_grpo": "r1exp_example.algorithm:RankGrpo"},
    },
)
