"""Estimates the memory that a planned step needs on each device.

Lengths are estimated from characters, because the tokenizer may not be on this machine: three characters per token,
which overestimates the number of tokens of English text. Where the data are not on this machine, or an earlier step
makes them, the longest prompt known in the plan is assumed, or 512 tokens if there is none.
"""

from dataclasses import dataclass, replace

from r1exp.launcher.base import Device
from r1exp.model.memory import Memory, memory_per_device, readable
from r1exp.model.settings import BYTES_PER_NUMBER
from r1exp.model.shapes import count_parameters, shape_of
from r1exp.model.workload import Load
from r1exp.plan.batch import Batch
from r1exp.plan.run_plan import PlanStep
from r1exp.prompt.chat import prompt_of
from r1exp.stage.config import StepConfig

_CHARACTERS_PER_TOKEN = 3
_NUM_PROBLEMS = 500  # problems whose prompts are measured
_ASSUMED_TOKENS = 512  # of the longest prompt, where no data are on this machine


@dataclass(frozen=True)
class Need:
    """The memory that a step needs on one device."""

    parts: Memory
    engine: (
        int | None
    )  # bytes of a vLLM engine beside the trainer; None: not known without the size of the device
    sleeps: bool  # the engine frees its memory during optimizer steps
    tokens: int  # of the longest row, prompt and completion
    assumed_tokens: int | None  # of the longest prompt, if it could not be measured

    @property
    def total(self) -> int | None:
        """Return the bytes at the peak; None: not known."""
        if self.engine is None:
            return None
        if self.sleeps:
            return max(self.parts.total, self.parts.permanent + self.engine)
        return self.parts.total + self.engine


@dataclass(frozen=True)
class Strategy:
    """How ranks share a model."""

    name: str  # as typed
    zero_stage: int
    offload: bool = False
    fsdp: bool = False


class MemoryReport:
    """The estimates for the steps of one plan. Prompts of the same data are measured once.

    Args:
        capacity: Bytes of one device; None: not known.
    """

    def __init__(self, capacity: int | None = None) -> None:
        # Tokens of the longest prompt, by data set, split and prompt settings.
        self._prompt_tokens: dict[str, int] = {}
        self._capacity = capacity

    def need(self, step: PlanStep) -> Need | None:
        """Return the estimate; None where the sizes of the model are not known."""
        return self.need_of(step.config, step.batch, step.device, step.num_problems)

    def need_of(
        self,
        config: StepConfig,
        batch: Batch | None,
        device: Device,
        num_problems: int | None,
        launcher: Strategy | None = None,
    ) -> Need | None:
        """Return the estimate for a step that is not planned yet; None where the sizes of the model are not known.

        Args:
            config: Its settings.
            batch: Its batch; None of a step that does not train.
            device: Its device.
            num_problems: Problems of its split; None: not known yet.
            launcher: How ranks share the model; None: as the launcher of `config` does.
        """
        shape = shape_of(config.model)
        if shape is None:
            return None
        measured = self._longest_prompt(config, num_problems)
        prompt = measured or max(self._prompt_tokens.values(), default=_ASSUMED_TOKENS)
        computes = config.trainer.get("gradient_checkpointing", config.model.gradient_checkpointing)
        model = config.model.model_copy(update={"gradient_checkpointing": computes})
        load = _load(config, batch, device, prompt)
        if launcher is not None:
            load = replace(load, zero_stage=launcher.zero_stage, offload=launcher.offload, fsdp=launcher.fsdp)
        parts = memory_per_device(shape, model, load)
        engine: int | None = 0
        if config.generates:
            weights = count_parameters(shape) * BYTES_PER_NUMBER[config.model.compute_dtype]
            engine = config.rollout.engine_bytes(device, weights, self._capacity)
        return Need(parts, engine, config.rollout.sleeps, load.tokens, None if measured else prompt)

    def lines(self, step: PlanStep) -> list[str]:
        """Return the estimate as lines of `plan --full`."""
        config = step.config
        need = self.need(step)
        if need is None:
            return ["memory per device: not known before the model's config.json is on this machine"]
        lines = need.parts.lines()
        if need.assumed_tokens is not None:
            lines.append(
                f"prompts of {need.assumed_tokens} tokens are assumed: the data are not on this machine yet"
            )
        if step.device == "cpu" and config.launcher.num_processes > 1:
            lines.append(
                f"on a CPU the {config.launcher.num_processes} ranks share one memory: multiply by their number"
            )
        if step.device == "cuda" and step.batch is not None:
            lines.append(_loading_line(config))
        note = config.rollout.memory_note(step.device)
        if note is not None and (step.batch is None or config.online is not None):
            lines.append(note)
        return lines

    def _longest_prompt(self, config: StepConfig, num_problems: int | None) -> int | None:
        """Return the estimated tokens of the longest prompt among the first problems; None of a step without a model."""
        assert config.stage is not None
        if num_problems is None or not (config.stage.trains or config.generates):
            return None
        split = config.stage.split
        data_sets = config.stage.data_sets(config)
        names = " ".join(dataset.model_dump_json() for dataset in data_sets)
        key = f"{split} {names} {config.prompt.model_dump_json()}"
        if key not in self._prompt_tokens:
            problems = [problem for dataset in data_sets for problem in dataset.first(split, _NUM_PROBLEMS)]
            if not problems:  # a mixture none of whose parts has test problems
                return None
            texts = (prompt_of(problem, config.prompt) for problem in problems)
            longest = max(sum(len(message["content"]) for message in text) for text in texts)
            self._prompt_tokens[key] = longest // _CHARACTERS_PER_TOKEN
        return self._prompt_tokens[key]


def _load(config: StepConfig, batch: Batch | None, device: Device, prompt_tokens: int) -> Load:
    assert config.stage is not None
    length = prompt_tokens + config.max_completion_length
    if batch is None:
        return Load(
            trains=False,
            keeps_reference=False,
            rows=0,
            tokens=length,
            logit_tokens=0,
            sampled_rows=config.rollout.rows_in_process,
            device=device,
        )
    samples_here = config.online is not None and config.rollout.rows_in_process > 0
    load = Load(
        trains=True,
        keeps_reference=False,
        rows=batch.rows_per_device,
        tokens=length,
        logit_tokens=length,
        sampled_rows=batch.completions_per_rank if samples_here else 0,
        world_size=batch.world_size,
        zero_stage=config.launcher.zero_stage,
        fsdp=config.launcher.is_fully_sharded,
        offload=config.launcher.is_offloaded,
        gathers=samples_here,
        syncs=config.online is not None and config.rollout.uses_vllm,
        accumulates=batch.accumulation > 1,
        others=_other_bytes(config),
        device=device,
    )
    return config.stage.memory_load(load, config)


def _other_bytes(config: StepConfig) -> int:
    """Return the bytes of the models of rewards; one that an earlier step trains is assumed to have the policy's size."""
    total = 0
    for reward in (config.rewards or {}).values():
        for path, width in reward.models_on_device().items():
            own = None
            if not path.startswith("artifact:"):
                found = {"kind": "pretrained", "path": path, "revision": None, "shape": None}
                own = shape_of(config.model.model_copy(update=found))
            shape = own or shape_of(config.model)
            total += 0 if shape is None else count_parameters(shape) * width
    return total


def _loading_line(config: StepConfig) -> str:
    """Return how much of the host's memory a rank needs while it loads its model, before that moves to the device."""
    shape = shape_of(config.model)
    assert shape is not None
    size = count_parameters(shape) * BYTES_PER_NUMBER[config.model.dtype]
    return f"loading: each rank holds the whole model in the host's memory for a moment, {readable(size)}"
