"""Chooses from the memory estimate what is `auto`, and says what fits a device. Torch-free.

    model.rows_per_device: auto          the largest power of two, at most 256, with which the estimate is below 90 % of the
                                         device; batches keep their size, because more passes are accumulated
    model.gradient_checkpointing: auto   off where at least 4,096 tokens (or all rows of a rank) fit in a pass without it
    model.attn_implementation: auto      flash_attention_2 where that package is installed and the card and the dtype of
                                         the passes support it; else sdpa, and eager for Gemma 2, whose capped attention
                                         sdpa cannot compute

The choice depends on the machine and, where the data are on it, on the longest prompt. It is written into the plan, so
that a run continues with it. It changes the last digits of a result and no more, and so counts as `numerics`, not in the
key of a step.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.util import find_spec

from r1exp.errors import Refused
from r1exp.launcher.base import Device
from r1exp.model.settings import BYTES_PER_NUMBER
from r1exp.model.shapes import shape_of
from r1exp.plan.batch import Batch, batch_of
from r1exp.plan.devices import Hardware, compute_capability, hardware_for
from r1exp.plan.memory_report import MemoryReport, Need, Strategy
from r1exp.plan.run_plan import PlanStep
from r1exp.stage.config import StepConfig

AUTO = "auto"
MARGIN = 0.9  # of a device: the allocator's fragments, and what the estimate does not count
_MOST_ROWS = 256
_ENOUGH_TOKENS = 4096  # of a pass, which keep a large GPU busy
_AMPERE = 8.0  # compute capability from which flash attention works
# From the cheapest to the dearest, in communication and time.
_STRATEGIES = (
    Strategy("ddp", 0),
    Strategy("zero1", 1),
    Strategy("zero2", 2),
    Strategy("zero3", 3),
    Strategy("fsdp2", 0, fsdp=True),
    Strategy("zero3 launcher.offload=true", 3, offload=True),
)


def chosen(config: StepConfig, device: Device, num_problems: int | None, sharing: int = 1) -> StepConfig:
    """Return the settings of a step with a value in place of each `auto`.

    Args:
        config: Settings of the step.
        device: Its device.
        num_problems: Problems of its split; None: not known yet.
        sharing: Members of a sweep that share one GPU.

    Raises:
        Refused: rows or checkpointing depend on a device whose memory is not known here, or nothing fits.
    """
    model = config.model
    if model.attn_implementation == AUTO:
        model = model.model_copy(update={"attn_implementation": attention_for(config, device)})
        config = config.model_copy(update={"model": model})
    assert config.stage is not None
    if not config.stage.trains:
        return config
    rows = model.rows_per_device
    checkpoints = config.trainer.get("gradient_checkpointing", model.gradient_checkpointing)
    is_auto = AUTO in (rows.sft, rows.rl, checkpoints)
    if not is_auto:
        return config
    hardware = hardware_for(device) if config.launcher.job is None else None
    memory = None if hardware is None else memory_of_a_rank(hardware, config)
    if memory is None or shape_of(model) is None:
        what = "memory of the devices" if memory is None else "size of the model"
        raise Refused(
            f"auto chooses from the {what}, which is not known on this machine; give numbers: "
            "model.rows_per_device.sft=4 model.rows_per_device.rl=8 model.gradient_checkpointing=true"
        )
    report = MemoryReport(memory)
    memory //= sharing
    smallest: int | None = None
    for uses in (False, True) if checkpoints == AUTO else (checkpoints,):
        for size in _sizes(config):
            found = _with(config, size, uses)
            batch = batch_of(found, num_problems)
            need = report.need_of(found, batch, device, num_problems)
            assert need is not None and need.total is not None
            smallest = need.total
            if need.total > MARGIN * memory:
                continue
            if checkpoints == AUTO and not uses and not _keeps_busy(batch, need):
                break
            return found
    assert smallest is not None
    raise Refused(
        f"one row in a pass needs about {smallest / 1e9:.1f} GB, more than {MARGIN:.0%} of the {memory / 1e9:.1f} GB of a "
        "device: use launcher=zero3 with more processes, model.lora.r=16, or a smaller model"
    )


def _sizes(config: StepConfig) -> Iterator[int]:
    """Yield the rows of a pass to try, from the most; one where the settings give a number."""
    rows = config.model.rows_per_device
    if AUTO not in (rows.sft, rows.rl):
        yield 1
        return
    size = _MOST_ROWS
    while size:
        yield size
        size //= 2


def _with(config: StepConfig, rows: int, checkpoints: bool) -> StepConfig:
    model = config.model.model_copy(
        update={
            "rows_per_device": config.model.rows_per_device.at_most(rows),
            "gradient_checkpointing": checkpoints,
        }
    )
    trainer = {**config.trainer, "gradient_checkpointing": checkpoints}
    return config.model_copy(update={"model": model, "trainer": trainer})


def _keeps_busy(batch: Batch, need: Need) -> bool:
    return batch.accumulation == 1 or batch.rows_per_device * need.tokens >= _ENOUGH_TOKENS


def memory_of_a_rank(hardware: Hardware, config: StepConfig) -> int | None:
    """Return the bytes that one rank may use: a device, or its share of the machine's memory; None: not known."""
    if hardware.memory is None or hardware.device == "cuda":
        return hardware.memory
    return hardware.memory // config.launcher.num_processes


def attention_for(config: StepConfig, device: Device) -> str:
    """Return what computes attention where `model.attn_implementation=auto`."""
    shape = shape_of(config.model)
    is_short = BYTES_PER_NUMBER[config.model.compute_dtype] == 2
    if device == "cuda" and is_short and has_flash_attention() and (compute_capability() or 0.0) >= _AMPERE:
        return "flash_attention_2"
    # Gemma 2: four norms a layer, and none over the heads.
    is_capped = shape is not None and shape.num_norms_per_layer == 4 and not shape.qk_norm
    return "eager" if is_capped else "sdpa"


@cache
def has_flash_attention() -> bool:
    """Whether the package flash-attn is installed."""
    return find_spec("flash_attn") is not None


def largest_rows(
    config: StepConfig, batch: Batch, device: Device, num_problems: int | None, memory: int
) -> int | None:
    """Return the most rows of a pass that fit, with all else as planned; None: not even one, or not known.

    Args:
        config: Settings of a step that trains.
        batch: Its batch.
        device: Its device.
        num_problems: Problems of its split; None: not known yet.
        memory: Bytes of one rank.
    """
    report = MemoryReport(memory)
    share = batch.rows_per_device * batch.accumulation
    for rows in (size for size in range(min(share, _MOST_ROWS), 0, -1) if share % size == 0):
        sized = _resized(batch, rows, share)
        need = report.need_of(config, sized, device, num_problems)
        if need is None or need.total is None:
            return None
        if need.total <= MARGIN * memory:
            return rows
    return None


def cheapest_launcher(
    config: StepConfig, batch: Batch, device: Device, num_problems: int | None, memory: int
) -> str | None:
    """Return the launcher with the least communication that fits with the planned rows; None: none, or not known."""
    report = MemoryReport(memory)
    for strategy in _STRATEGIES:
        need = report.need_of(config, batch, device, num_problems, strategy)
        if need is None or need.total is None:
            return None
        if need.total <= MARGIN * memory:
            return "local" if strategy.name == "ddp" and batch.world_size == 1 else strategy.name
    return None


def fit_lines(step: PlanStep, hardware: Hardware) -> list[str]:
    """Return what fits a device, as lines of `plan --full`: rows of a pass, and the cheapest launcher."""
    memory = memory_of_a_rank(hardware, step.config)
    if step.batch is None or memory is None:
        return []
    inputs = (step.config, step.batch, step.device, step.num_problems, memory)
    rows, launcher = largest_rows(*inputs), cheapest_launcher(*inputs)
    group = "rl" if step.config.online is not None else "sft"
    most = (
        "no row fits in a pass"
        if rows is None
        else f"at most {rows} rows of a pass fit (rows_per_device.{group})"
    )
    if step.device == "cpu":
        return [f"{most}, below {MARGIN:.0%} of {memory / 1e9:.1f} GB a rank"]
    cheapest = (
        "no launcher makes it fit" if launcher is None else f"the cheapest launcher that fits is {launcher}"
    )
    return [f"{most}, and {cheapest}, below {MARGIN:.0%} of {memory / 1e9:.1f} GB a device"]


def _resized(batch: Batch, rows: int, share: int) -> Batch:
    """Return a batch with so many rows in a pass, for an estimate."""
    return replace(batch, rows_per_device=rows, accumulation=share // rows)
