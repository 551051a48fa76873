"""Faults that the demonstrations of health rules need: two rewards that short texts please, and a sampler with old weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from r1exp.launcher.base import Device
from r1exp.model.settings import ModelSettings
from r1exp.rollout.settings import VllmColocate


def short(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
    """Return 1 for an empty completion, and a twentieth less for every token."""
    del kwargs
    return [max(0.0, 1.0 - len(ids) / 20) for ids in completion_ids]


def shorter(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
    """Return a reward without a bound: 1 for 20 tokens, 16 for half as many, 160,000 for one."""
    del kwargs
    return [(20 / max(1, len(ids))) ** 4 for ids in completion_ids]


class StaleColocate(VllmColocate):
    """vLLM in the training process that receives the trainer's weights once, and never again."""

    kind: str  # type: ignore[assignment]  # its import path

    @contextmanager
    def engine(self, model: ModelSettings, device: Device, seed: int) -> Iterator[None]:
        """Build the engine, and make every later update of its weights do nothing."""
        from trl.generation.vllm_generation import VLLMGeneration

        update = VLLMGeneration.sync_weights
        done: set[int] = set()

        def once(generation: Any) -> None:
            if id(generation) not in done:
                done.add(id(generation))
                update(generation)

        VLLMGeneration.sync_weights = once
        with super().engine(model, device, seed):
            yield
