"""Says which options for speed a step uses, and why not the others; for `plan --full`. Torch-free."""

from collections.abc import Iterator

from r1exp.model.memory import readable
from r1exp.plan.devices import Hardware
from r1exp.plan.fit import MARGIN, has_flash_attention, memory_of_a_rank
from r1exp.plan.memory_report import MemoryReport, Need
from r1exp.plan.run_plan import PlanStep

_ENGINE_MOST = 0.9  # share of a device


def speed_lines(step: PlanStep, hardware: Hardware) -> list[str]:
    """Return one line for each option of a step that trains."""
    if step.batch is None:
        return []
    memory = memory_of_a_rank(hardware, step.config)
    need = MemoryReport(memory).need(step)
    found = [
        *_attention(step),
        *_checkpointing(step),
        *_packing(step),
        *_kl(step),
        *_passes(step),
        *_sampled_logps(step),
        *_sleep(step, need, memory),
        *_overlap(step),
    ]
    return [f"speed: {line}" for line in found]


def _attention(step: PlanStep) -> Iterator[str]:
    chosen = step.config.model.attn_implementation or "chosen by transformers"
    if "flash" in chosen:
        yield f"attention {chosen}"
    elif step.device == "cpu":
        yield f"attention {chosen}; flash attention needs a GPU"
    elif not has_flash_attention():
        yield f"attention {chosen}; flash attention needs the package flash-attn"
    else:
        yield f"attention {chosen}; model.attn_implementation=auto uses flash attention where card and dtype allow it"


def _checkpointing(step: PlanStep) -> Iterator[str]:
    if step.trainer_args.get("gradient_checkpointing", True):
        yield "gradient checkpointing on: a third more computation; model.gradient_checkpointing=auto ends it where memory allows"
    else:
        yield "gradient checkpointing off: nothing is computed twice"
    yield "output matrix in tiles (TRL); Liger's kernels only with trainer.use_liger_kernel=true, which TRL 1.16 deprecates"


def _packing(step: PlanStep) -> Iterator[str]:
    if "packing" in step.trainer_args:
        if step.trainer_args["packing"]:
            yield "rows packed: no padding, and another number of answers in each optimizer step"
        else:
            yield "rows padded; trainer.packing=true packs them, which changes what an optimizer step learns from"


def _kl(step: PlanStep) -> Iterator[str]:
    if step.config.online is None:
        return
    if step.config.online.track_kl and step.config.beta == 0.0:
        yield "one forward pass of the reference, only to log kl; algorithm.track_kl=false ends it"


def _passes(step: PlanStep) -> Iterator[str]:
    online = step.config.online
    trims = None if online is None else online.trims_passes
    if online is not None and online.sorts_passes:
        yield "rows sorted by length and passes without padding (algorithm.short_passes), with other last digits than TRL's"
    elif trims:
        yield "passes trimmed to their longest row (algorithm.short_passes), with other last digits than TRL's"
    elif trims is not None:
        yield "passes padded to the longest row of the batch; algorithm.short_passes=true trims them, =sorted leaves out all padding, with other last digits"


def _sampled_logps(step: PlanStep) -> Iterator[str]:
    online = step.config.online
    if online is None or not online.takes_sampled_logps:
        return
    model = step.config.model
    if step.config.rollout.kind != "hf":
        yield f"log-probabilities of the policy computed again, because rollout={step.config.rollout.kind} samples with another engine"
    elif {model.dtype, model.compute_dtype} != {"float32"}:
        yield "log-probabilities of the policy computed again: those of sampling are the same with model.dtype and compute_dtype float32 only"
    else:
        yield "log-probabilities of the policy taken from sampling (algorithm.sampled_logps), with other last digits"


def _sleep(step: PlanStep, need: Need | None, memory: int | None) -> Iterator[str]:
    rollout = step.config.rollout
    engine = None if need is None else need.engine
    if step.config.online is None or not engine or step.device == "cpu":
        return
    assert need is not None
    if not rollout.sleeps:
        yield f"vLLM holds {readable(engine)} while the trainer computes; rollout.sleep=true frees it"
    elif memory is not None:
        most = min(_ENGINE_MOST, MARGIN - need.parts.permanent / memory)
        yield (
            "vLLM sleeps while the trainer computes, and its share can be up to "
            f"rollout.gpu_memory_utilization={max(most, 0.0):.2f}"
        )


def _overlap(step: PlanStep) -> Iterator[str]:
    launcher = step.config.launcher
    if launcher.num_processes == 1:
        return
    if launcher.zero_stage in (1, 2):
        yield f"gradients are reduced after the backward pass: overlap_comm of ZeRO-{launcher.zero_stage} is off, as DeepSpeed ships it"
    elif launcher.is_fully_sharded:
        yield "FSDP2 gathers the next layer and reduces the gradients of the last one while a layer computes"
    else:
        yield "communication overlaps with the backward pass"
