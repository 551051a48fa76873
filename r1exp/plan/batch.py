"""Computes how the rows of one optimizer step are split over ranks, and how many rows an epoch drops.

A recipe states the rows of an optimizer step over all ranks (`algorithm.prompts_per_step`,
`stage.rows_per_step`), and the model states how many rows fit on a device at once (`model.rows_per_device`), so
that the same command makes the same optimizer steps on any number of processes.

    rows_per_step = world_size * rows_per_device * accumulation
"""

import math
from dataclasses import dataclass

from r1exp.algorithm.base import Rows
from r1exp.errors import Refused
from r1exp.stage.config import StepConfig


@dataclass(frozen=True)
class Batch:
    """Sizes of one training step."""

    world_size: int  # ranks
    rows_per_step: int  # rows or completions per optimizer step, over all ranks
    rows_per_device: int  # rows per forward pass of one rank
    accumulation: int  # forward passes per optimizer step
    num_steps: int  # optimizer steps
    num_rows: int | None  # problems in the training split; None: not known before it is downloaded
    rows_dropped: int | None  # problems that each epoch drops
    steps_per_epoch: int | None  # optimizer steps

    @property
    def completions_per_rank(self) -> int:
        """Completions that a rank samples at once; 0 if it samples none."""
        return 0


@dataclass(frozen=True)
class RlBatch(Batch):
    """Sizes of one RL step; rows are completions."""

    num_generations: int  # completions per prompt
    steps_per_generation: int  # forward passes of one rank per generation batch
    completions_per_generation: int  # completions sampled at once, over all ranks
    updates_per_batch: int  # optimizer steps per generation batch

    @property
    def completions_per_rank(self) -> int:
        """Completions that a rank samples at once."""
        return self.completions_per_generation // self.world_size

    @property
    def prompts_per_step(self) -> int:
        """Prompts per optimizer step, over all ranks."""
        return self.rows_per_step // self.num_generations

    @property
    def prompts_per_generation(self) -> int:
        """Prompts sampled at once, over all ranks."""
        return self.completions_per_generation // self.num_generations

    @property
    def is_split(self) -> bool:
        """Whether the completions of one prompt are on more than one rank."""
        return (self.completions_per_generation // self.world_size) % self.num_generations != 0

    @property
    def is_on_policy(self) -> bool:
        """Whether every optimizer step uses completions of the policy that it updates."""
        return self.updates_per_batch == 1


def batch_of(config: StepConfig, num_rows: int | None) -> Batch:
    """Compute the batch of a training step.

    Args:
        config: Settings of a step that trains.
        num_rows: Problems in its training split; None if they are not on this machine yet.

    Raises:
        Refused: the rows do not divide, or the data set is smaller than one batch.
    """
    world = config.launcher.num_processes
    rows = config.rows
    total = rows.number
    if total % world:
        raise Refused(_indivisible(config, rows, world))
    share = total // world
    most = rows.most_per_device
    assert most != "auto", "r1exp.plan.fit chooses the number first"
    per_device = next(size for size in range(min(most, share), 0, -1) if share % size == 0)
    if per_device < rows.least_per_device:
        raise Refused(
            f"{rows.setting}={total} leaves {per_device} of the {rows.unit} for each forward pass of {world} processes, and "
            f"the algorithm compares at least {rows.least_per_device}; use a multiple of {rows.least_per_device * world}"
        )
    accumulation = share // per_device
    assert config.max_steps is not None
    if config.online is None:
        _refuse_small(num_rows, total, f"{total} {rows.unit} of one optimizer step ({rows.setting})")
        steps_per_epoch = None if num_rows is None else num_rows // total
        dropped = None if num_rows is None else num_rows % total
        return Batch(
            world, total, per_device, accumulation, config.max_steps, num_rows, dropped, steps_per_epoch
        )
    return _rl_batch(config, num_rows, per_device, accumulation)


def _indivisible(config: StepConfig, rows: Rows, world: int) -> str:
    """Return that the ranks cannot share the rows of an optimizer step equally, and the nearest numbers that they can."""
    each = 1 if config.online is None else config.num_generations or 1  # rows for one unit of the setting
    setting = rows.setting.partition(" x ")[0]
    now, every = rows.number // each, world // math.gcd(world, each)
    near = [number for number in (now // every * every, (now // every + 1) * every) if number > 0]
    fewer = next(number for number in range(world - 1, 0, -1) if rows.number % number == 0)
    launcher = config.launcher
    ranks = f", or {launcher.ranks_setting}={fewer}" if launcher.num_nodes == 1 else ""
    return (
        f"{rows.setting} gives {rows.number} {rows.unit} per optimizer step, which {world} processes cannot share equally; "
        f"type {setting}={' or '.join(map(str, near))}{ranks}"
    )


def _rl_batch(config: StepConfig, num_rows: int | None, per_device: int, accumulation: int) -> RlBatch:
    assert config.num_generations is not None and config.online is not None and config.max_steps is not None
    world, total, group = config.launcher.num_processes, config.rows.number, config.num_generations
    per_generation = accumulation * config.online.minibatches  # forward passes
    completions = per_device * world * per_generation
    if group == 1 and completions % 2:
        raise Refused(
            f"one completion per prompt and {completions} prompts at once: TRL requires an even number of completions; "
            "use an even algorithm.prompts_per_step, or num_generations=2"
        )
    prompts = completions // group
    _refuse_small(
        num_rows, prompts, f"{prompts} prompts of one generation batch (algorithm.prompts_per_step)"
    )
    iterations = config.trainer.get("num_iterations") or 1
    updates = config.online.minibatches * iterations
    return RlBatch(
        world_size=world,
        rows_per_step=total,
        rows_per_device=per_device,
        accumulation=accumulation,
        num_steps=config.max_steps,
        num_rows=num_rows,
        rows_dropped=None if num_rows is None else num_rows % prompts,
        steps_per_epoch=None if num_rows is None else num_rows // prompts * updates,
        num_generations=group,
        steps_per_generation=per_generation,
        completions_per_generation=completions,
        updates_per_batch=updates,
    )


def _refuse_small(num_rows: int | None, needed: int, what: str) -> None:
    if num_rows is not None and num_rows < needed:
        raise Refused(
            f"the training split has {num_rows} problems, fewer than the {what}; "
            "use more problems (dataset.limit, dataset.num_train) or a smaller batch"
        )
