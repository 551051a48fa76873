"""Estimates the memory that a planned step needs on each device.

Lengths are estimated from characters, because the tokenizer may not be on this machine: three characters per token,
which overestimates the number of tokens of English text. Where the data are not on this machine, or an earlier step
makes them, the longest prompt known in the plan is assumed, or 512 tokens if there is none.
"""

from dataclasses import dataclass

from r1exp.model.memory import Load, Memory, count_parameters, memory_per_device, shape_of
from r1exp.model.settings import BYTES_PER_NUMBER
from r1exp.plan.steps import PlannedStep
from r1exp.prompt.chat import prompt_of

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
    assumed_tokens: int | None  # of the longest prompt, if it could not be measured

    @property
    def total(self) -> int | None:
        """Return the bytes at the peak; None: not known."""
        if self.engine is None:
            return None
        if self.sleeps:
            return max(self.parts.total, self.parts.permanent + self.engine)
        return self.parts.total + self.engine


class MemoryReport:
    """The estimates for the steps of one plan. Prompts of the same data are measured once.

    Args:
        capacity: Bytes of one device; None: not known.
    """

    def __init__(self, capacity: int | None = None) -> None:
        # Tokens of the longest prompt, by data set, split and prompt settings.
        self._prompt_tokens: dict[str, int] = {}
        self._capacity = capacity

    def need(self, step: PlannedStep) -> Need | None:
        """Return the estimate; None where the sizes of the model are not known."""
        config = step.config
        shape = shape_of(config.model)
        if shape is None:
            return None
        measured = self._longest_prompt(step)
        prompt = measured or max(self._prompt_tokens.values(), default=_ASSUMED_TOKENS)
        parts = memory_per_device(shape, config.model, _load(step, prompt))
        engine: int | None = 0
        if config.generates:
            weights = count_parameters(shape) * BYTES_PER_NUMBER[config.model.compute_dtype]
            engine = config.rollout.engine_bytes(step.device, weights, self._capacity)
        return Need(parts, engine, config.rollout.sleeps, None if measured else prompt)

    def lines(self, step: PlannedStep) -> list[str]:
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
        note = config.rollout.memory_note(step.device)
        if note is not None and (step.batch is None or config.online is not None):
            lines.append(note)
        return lines

    def _longest_prompt(self, step: PlannedStep) -> int | None:
        """Return the estimated tokens of the longest prompt among the first problems."""
        if step.num_problems is None:
            return None
        config = step.config
        assert config.stage is not None
        split = config.stage.split
        data_sets = config.stage.data_sets(config)
        names = " ".join(dataset.model_dump_json() for dataset in data_sets)
        key = f"{split} {names} {config.prompt.model_dump_json()}"
        if key not in self._prompt_tokens:
            problems = [problem for dataset in data_sets for problem in dataset.first(split, _NUM_PROBLEMS)]
            texts = (prompt_of(problem, config.prompt) for problem in problems)
            longest = max(sum(len(message["content"]) for message in text) for text in texts)
            self._prompt_tokens[key] = longest // _CHARACTERS_PER_TOKEN
        return self._prompt_tokens[key]


def _load(step: PlannedStep, prompt_tokens: int) -> Load:
    config = step.config
    assert config.stage is not None
    length = prompt_tokens + config.max_completion_length
    if step.batch is None:
        return Load(
            trains=False,
            keeps_reference=False,
            rows=0,
            tokens=length,
            logit_tokens=0,
            sampled_rows=config.rollout.rows_in_process,
            device=step.device,
        )
    samples_here = config.online is not None and config.rollout.rows_in_process > 0
    merges = config.online is not None and config.rollout.uses_vllm and config.model.lora.r > 0
    load = Load(
        trains=True,
        keeps_reference=False,
        rows=step.batch.rows_per_device,
        tokens=length,
        logit_tokens=length,
        sampled_rows=step.batch.completions_per_rank if samples_here else 0,
        world_size=step.batch.world_size,
        zero_stage=config.launcher.zero_stage,
        offload=config.launcher.is_offloaded,
        gathers=samples_here or merges,
        accumulates=step.batch.accumulation > 1,
        device=step.device,
    )
    return config.stage.memory_load(load, config)
