"""Estimates the space on the disk that a step needs, and refuses to start one that would run out of it.

    kept checkpoints * checkpoint + the larger of one more checkpoint and the model + logs

A checkpoint holds the trained weights and AdamW's moments, and PPO's critic with its own; a new one is written before
the oldest is deleted. With evaluation.keep_best there are as many models more. Not counted: completions, a tracker's files, and what other processes write meanwhile.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1exp.errors import Refused
from r1exp.files import existing
from r1exp.model.memory import memory_per_device, readable
from r1exp.model.settings import BYTES_PER_NUMBER
from r1exp.model.shapes import count_lora, count_parameters, shape_of
from r1exp.model.workload import Load
from r1exp.paths import StepPaths
from r1exp.plan.run_plan import PlanStep

_LOGS = 2_000_000  # bytes of logs, metrics and statuses of a step


@dataclass(frozen=True)
class DiskSpace:
    """The space that a step needs, in bytes."""

    checkpoint: int = 0
    num_kept: int = 0  # checkpoints that stay
    model: int = 0
    num_best: int = 0  # models that are the best so far: of the step, and of older checkpoints

    @property
    def total(self) -> int:
        """Return the most that the step has on the disk at once."""
        best = self.num_best * self.model
        return self.num_kept * self.checkpoint + max(self.checkpoint, self.model) + best + _LOGS

    def text(self) -> str:
        """Return what the space is for."""
        if not self.model:
            return "its logs"
        best = f", {self.num_best} models that are the best so far" if self.num_best else ""
        return f"{self.num_kept} checkpoint(s) of {readable(self.checkpoint)}, one more while it is written, and a model of {readable(self.model)}{best}"


def disk_space(step: PlanStep) -> DiskSpace:
    """Return the space that a step needs; of a model whose sizes are not known here, none for checkpoints and model."""
    config = step.config
    shape = shape_of(config.model)
    if step.batch is None or shape is None:
        return DiskSpace()
    assert config.stage is not None
    # The sizes of the whole model: of one rank that has all of it.
    load = Load(
        trains=True,
        keeps_reference=False,
        rows=0,
        tokens=0,
        logit_tokens=0,
        sampled_rows=0,
        zero_stage=config.launcher.zero_stage,
    )
    load = config.stage.memory_load(load, config)
    parts = memory_per_device(shape, config.model, load)
    saved = count_parameters(shape) + (0 if load.critic is None else count_parameters(load.critic))
    adapters = count_lora(shape, config.model.lora) * BYTES_PER_NUMBER["float32"]
    num_kept = _num_kept(step.trainer_args)
    return DiskSpace(
        checkpoint=(adapters or parts.weights) + parts.optimizer + parts.critic,
        num_kept=num_kept,
        num_best=num_kept + 1 if config.validates and config.evaluation.keep_best is not None else 0,
        model=saved * BYTES_PER_NUMBER[config.model.dtype],
    )


def _num_kept(arguments: dict[str, Any]) -> int:
    """Return how many checkpoints a training step keeps, with TRL's names of the settings."""
    every, last = arguments["save_steps"], arguments["max_steps"]
    num_saved = int(last // every) if every >= 1 else int(1 / every)
    limit = arguments.get("save_total_limit")
    return num_saved if limit is None else min(limit, num_saved)


def refuse_full_disk(step: PlanStep, folder: Path) -> None:
    """Check that the disk has the space that the rest of a step needs.

    Raises:
        Refused: there is too little; the message has the space needed and the space there.
    """
    need = disk_space(step)
    own = sum(
        path.stat().st_blocks * 512 for path in StepPaths(folder).checkpoints.rglob("*") if path.is_file()
    )
    missing = need.total - own
    free = shutil.disk_usage(existing(folder)).free
    if free >= missing:
        return
    fewer = ", keep fewer checkpoints (trainer.save_total_limit=1)" if need.num_kept > 1 else ""
    raise Refused(
        f"{folder}: no space left for step {step.name}: it needs about {readable(max(missing, 0))} ({need.text()}), and "
        f"{readable(free)} are free; free some{fewer}, or write to another disk with paths.runs=DIR"
    )
