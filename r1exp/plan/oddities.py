"""Finds what is unusual about a plan: each is one sentence, with what to type where something can be typed."""

from collections.abc import Iterator, Sequence

from r1exp.errors import Refused
from r1exp.model.memory import Memory, readable
from r1exp.model.shapes import count_lora, count_parameters, shape_of
from r1exp.plan.batch import Batch, RlBatch
from r1exp.plan.devices import Hardware
from r1exp.plan.fit import cheapest_launcher, largest_rows, memory_of_a_rank
from r1exp.plan.memory_report import Need
from r1exp.plan.steps import PlannedStep
from r1exp.rewards.advice import constant_in_group_warnings

_LARGE_FOR_A_CPU = 50_000_000  # parameters
_BYTES_SAVED = 12  # of a trained weight: itself and two moments of Adam, in float32
_DISK = 1e9  # bytes a second
_DROPPED_SHARE = 0.05  # of the problems of an epoch


def oddities(steps: Sequence[PlannedStep], hardware: Hardware, needs: Sequence[Need | None]) -> list[str]:
    """Return one sentence for each thing that is unusual; sentences of several steps are said once.

    Args:
        steps: The planned steps.
        hardware: The devices.
        needs: The memory that each step needs.
    """
    found = [*_of_memory(steps, hardware, needs), *_of_devices(steps, hardware)]
    found += [text for step in steps for text in (*step.config.launcher.oddities(), *_of_checkpoints(step))]
    if not hardware.is_given:
        found += [
            f"r1exp would not start here: {reason}" for step in steps for reason in _of_this_machine(step)
        ]
    for step in steps:
        found += [
            f"{step.name}: {warning}" for warning in constant_in_group_warnings(step.config.rewards or {})
        ]
        if step.batch is not None:
            found += [f"{step.name}: {text}" for text in _of_batch(step.batch)]
    return list(dict.fromkeys(found))


def _of_memory(
    steps: Sequence[PlannedStep], hardware: Hardware, needs: Sequence[Need | None]
) -> Iterator[str]:
    """Yield one sentence for each remedy, with the steps that need it."""
    too_large: dict[str, list[tuple[str, int]]] = {}
    for step, need in zip(steps, needs, strict=True):
        if need is None or need.total is None or hardware.memory is None or not uses_device(step):
            continue
        total = need.total * (step.config.launcher.num_processes if step.device == "cpu" else 1)
        if total > hardware.memory:
            too_large.setdefault(_remedy(step, need.parts, hardware), []).append((step.name, total))
    for remedy, found in too_large.items():
        largest = readable(max(total for _, total in found))
        what = (
            f"{found[0][0]} needs about"
            if len(found) == 1
            else f"{', '.join(name for name, _ in found)} need up to"
        )
        yield f"{what} {largest}, and {hardware.name} has {readable(hardware.memory or 0)}: {remedy}"


def _of_this_machine(step: PlannedStep) -> Iterator[str]:
    """Yield why a run would be refused on this machine, without any question to the network."""
    config = step.config
    try:
        config.launcher.refuse_unready()
        assert config.stage is not None
        config.stage.refuse_unready(config)
        if config.generates:
            config.rollout.refuse_unready(config.launcher)
    except Refused as refused:
        yield str(refused)


def uses_device(step: PlannedStep) -> bool:
    """Whether the model of a step is on the devices of its ranks."""
    config = step.config
    if step.batch is not None:
        return True
    return config.generates and not config.rollout.is_remote and step.served() is None


def _remedy(step: PlannedStep, parts: Memory, hardware: Hardware) -> str:
    """Return what to type so that it fits, as the estimate says; else to need less of the largest part."""
    if step.device == "cpu" and step.config.launcher.num_processes > 1:
        return "fewer processes, or a smaller model"
    held = parts.weights + parts.optimizer + parts.reference + parts.critic + parts.gradients
    if step.batch is None:
        return "a smaller rollout.batch_size or model"
    if held < max(parts.activations, parts.sampling):
        group = "rl" if step.config.online is not None else "sft"
        memory = memory_of_a_rank(hardware, step.config)
        inputs = (step.config, step.batch, step.device, step.num_problems)
        lower = (largest_rows(*inputs, memory) if memory else None) or max(1, step.batch.rows_per_device // 2)
        return f"model.rows_per_device.{group}={lower}, or model.gradient_checkpointing=true"
    if step.device == "cpu":
        return "a smaller model"
    inputs = (step.config, step.batch, step.device, step.num_problems)
    launcher = cheapest_launcher(*inputs, hardware.memory) if hardware.memory else None
    if launcher is not None and step.config.launcher.num_processes > 1:
        return f"launcher={launcher} fits"
    if not step.config.launcher.partitions_weights:
        return "launcher=zero3 with more processes, or model.lora.r=16"
    offload = (
        "launcher.offload=true" if step.config.launcher.zero_stage else "launcher=zero3 launcher.offload=true"
    )
    return f"more processes, model.lora.r=16, or {offload}"


def _of_devices(steps: Sequence[PlannedStep], hardware: Hardware) -> Iterator[str]:
    ranks = max(step.config.launcher.num_processes for step in steps)
    launcher = next(step.config.launcher for step in steps if step.config.launcher.num_processes == ranks)
    # Devices of a server that a policy is trained with; ranks that only evaluate share the server's.
    beside = max(
        (served.settings.num_devices for step in steps if (served := step.served()) and served.trains),
        default=0,
    )
    beside = 0 if launcher.has_server_node else beside
    if hardware.device == "cpu":
        shapes = [shape_of(step.config.model) for step in steps if uses_device(step)]
        sizes = [count_parameters(shape) for shape in shapes if shape is not None]
        if sizes and max(sizes) > _LARGE_FOR_A_CPU:
            yield (
                f"{max(sizes) / 1e9:.1f} B parameters on a CPU; to plan for other hardware type device=h100 devices=8"
            )
        return
    number = hardware.number
    if number is None or launcher.job is not None:
        return
    more = _most_ranks(steps, number - beside)
    if more > ranks:
        server = f", {beside} for the vLLM server" if beside else ""
        choice = "" if launcher.is_distributed or ranks > 1 else "launcher=zero2 "
        yield (
            f"{number} devices{server} and {ranks} process{'es' if ranks > 1 else ''}, so that some stay unused: type "
            f"{choice}launcher.num_processes={more}"
        )


def _most_ranks(steps: Sequence[PlannedStep], most: int) -> int:
    """Return the largest number of ranks that can share the batch of every training step."""
    rows = [step.batch.rows_per_step for step in steps if step.batch is not None]
    return next((number for number in range(most, 0, -1) if all(row % number == 0 for row in rows)), 1)


def _of_checkpoints(step: PlannedStep) -> Iterator[str]:
    """Yield that a checkpoint is larger than what a scheduler leaves time for."""
    shape, limit = shape_of(step.config.model), step.config.launcher.seconds_to_save
    if step.batch is None or shape is None or limit is None:
        return
    lora = step.config.model.lora
    size = _BYTES_SAVED * (count_lora(shape, lora) if lora.r else count_parameters(shape))
    if size / _DISK > limit:
        yield (
            f"{step.name}: a checkpoint has {readable(size)}, which a disk of 1 GB/s writes in {size / _DISK:.0f} s, and the "
            f"scheduler leaves {limit:.0f} s: {step.config.launcher.advice_to_save}"
        )


def _of_batch(batch: Batch) -> Iterator[str]:
    if batch.num_rows is not None and batch.rows_dropped:
        share = batch.rows_dropped / batch.num_rows
        if share > _DROPPED_SHARE:
            yield (
                f"each epoch drops {batch.rows_dropped} of {batch.num_rows} problems, which do not fill a batch"
            )
    if batch.steps_per_epoch and batch.num_steps > 2 * batch.steps_per_epoch:
        yield f"{batch.num_steps / batch.steps_per_epoch:.1f} epochs over {batch.num_rows} problems"
    if not isinstance(batch, RlBatch):
        return
    if not batch.is_on_policy:
        yield f"off-policy: {batch.updates_per_batch} optimizer steps for each batch of completions"
    if batch.is_split:
        yield "groups are split across ranks; they are gathered before they are scored"
