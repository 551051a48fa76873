"""What a sampler is told, and the menu of generators. Torch-free."""

from typing import Annotated, Literal, Protocol

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from r1exp.records import Completion, Message
from r1exp.settings import Settings


class Sampling(Settings):
    """How completions are drawn; nothing that a model's own generation config says overrides this."""

    temperature: NonNegativeFloat  # 0: greedy, the most likely token every time
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # nucleus; 1: every token may come
    top_k: NonNegativeInt = 0  # tokens; 0: every token may come
    max_tokens: PositiveInt  # tokens of a completion, the end token included
    seed: NonNegativeInt = 0


class HfRollout(Settings):
    """Generation with transformers, in the process that holds the model."""

    kind: Literal["hf"]
    batch_size: PositiveInt  # completions generated at once


RolloutSettings = HfRollout  # with a second kind: a union discriminated by `kind`


class Generator(Protocol):
    """Anything that answers prompts."""

    def generate(self, prompts: list[list[Message]], n: int, sampling: Sampling) -> list[list[Completion]]:
        """Return `n` completions of each prompt, in the order of the prompts."""
        ...
