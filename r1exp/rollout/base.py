"""The base class of rollouts, and how completions are sampled. Torch-free."""

from collections.abc import Callable, Container, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from r1exp.launcher.base import Device, Launcher
from r1exp.model.settings import ModelSettings
from r1exp.records import Completion, Message
from r1exp.rollout.kept import KeptRows
from r1exp.settings import Settings

Share = Annotated[float, Field(gt=0.0, le=1.0)]


class Sampling(Settings):
    """How completions are sampled. Overrides the model's own generation config."""

    temperature: NonNegativeFloat  # 0: greedy decoding
    top_p: Share = 1.0  # nucleus sampling; 1: off
    top_k: NonNegativeInt = 0  # tokens; 0: off
    max_tokens: PositiveInt  # tokens of a completion, the end token included
    seed: NonNegativeInt = 0


class Generator(Protocol):
    """Generates completions of prompts."""

    def generate(self, prompts: list[list[Message]], n: int, sampling: Sampling) -> list[list[Completion]]:
        """Return `n` completions of each prompt, in the order of the prompts."""
        ...


@dataclass(frozen=True)
class GeneratorInputs:
    """What a rollout needs from a step to build its generator."""

    model_path: str  # folder or hub id
    model: ModelSettings
    device: Device
    server: str | None  # base URL of the vLLM server that was started for the step
    key: str  # of the step
    folder: Path  # of the step
    # Receives how many completions are new, also in parts.
    advance: Callable[[float], None] = lambda amount: None
    # What an interrupted execution of the step has generated; a rollout that ignores it begins again.
    kept: KeptRows = field(default_factory=KeptRows)


class Rollout(Settings):
    """Generates completions. Subclasses are frozen settings; engines are imported when they are built."""

    kind: str

    # Settings of another rollout that this one cannot have -> why, and what to type; shown to who types them.
    cannot_have: ClassVar[Mapping[str, str]] = {}
    generator: ClassVar[str]  # import path of a function (settings, GeneratorInputs) -> Generator
    # Import path of a function (settings, GeneratorInputs, trainer) -> context of a Generator with the weights that the trainer has.
    in_training: ClassVar[str] = "r1exp.rollout.in_training:hf_generator"
    trains: ClassVar[bool] = True  # can generate for RL: it receives the policy's newest weights
    returns_logprobs: ClassVar[bool] = False  # rewards receive the sampler's log-probability of each token
    uses_vllm: ClassVar[bool] = False
    # Fields that do not change the completions, and so are not part of a step's key.
    outside_key: ClassVar[frozenset[str]] = frozenset()
    # Further such fields of a step that trains on the completions.
    outside_key_of_training: ClassVar[frozenset[str]] = frozenset()
    # Further such fields of a step that generates and trains nothing.
    outside_key_without_training: ClassVar[frozenset[str]] = frozenset()

    @property
    def server(self) -> Any:
        """This rollout (a `r1exp.serving.settings.VllmServer`) if a server is started for it, else None."""
        return None

    @property
    def is_remote(self) -> bool:
        """Whether an endpoint serves a model of its own, so that the step's model is not loaded."""
        return False

    @property
    def rows_in_process(self) -> int:
        """Completions generated at once in the process that holds the model; 0: none."""
        return 0

    @property
    def batches_ahead(self) -> int:
        """Generation batches that are sampled before their turn, while the trainer trains on earlier ones."""
        return 0

    @property
    def seeds_batches(self) -> bool:
        """Whether the random numbers of each generation batch of training follow from the seed and the optimizer step alone."""
        return False

    def when_alone(self) -> Self:
        """Return this rollout as it is in a step that trains nothing, so that an engine may have the whole device."""
        return self

    def with_longest(self, num_tokens: Callable[[], int | None]) -> Self:
        """Return this rollout with room for sequences of so many tokens, where it needs to know and nothing states it.

        Args:
            num_tokens: Returns the largest number of tokens of a prompt and its completion; None: not known.
        """
        del num_tokens
        return self

    def length_limit(self, num_positions: int | None) -> tuple[int | None, str]:
        """Return the largest number of tokens of prompt and completion together, and what sets that limit.

        Args:
            num_positions: Positions of the model; None: its config does not state them.
        """
        return num_positions, f"the model's {num_positions} positions"

    def check(self, launcher: Launcher, device: Device, trainer: Mapping[str, Any] | None) -> None:
        """Raise Refused if this rollout cannot work in a step.

        Args:
            launcher: Launcher of the step.
            device: Device of the step.
            trainer: Arguments of the trainer, if the step trains on what it generates; else None.
        """

    def refuse_unready(self, launcher: Launcher) -> None:
        """Raise Refused if this machine lacks what the rollout needs."""

    def trainer_arguments(self, accepted: Container[str]) -> dict[str, Any]:
        """Return the arguments of the trainer's dataclass that the rollout sets.

        Args:
            accepted: The fields of that dataclass.
        """
        del accepted
        return {}

    def memory_note(self, device: Device) -> str | None:
        """Return a line for `plan` about memory that the rollout needs in addition; None: no such memory."""
        del device
        return None

    def engine_bytes(self, device: Device, weights: int, capacity: int | None) -> int | None:
        """Return the memory that an engine takes on each device of the ranks; None: not known.

        Args:
            device: Device of the step.
            weights: Bytes of the model's weights in the compute dtype.
            capacity: Bytes of a device; None: not known.
        """
        del device, weights, capacity
        return 0

    def among(self, number: int) -> Self:
        """Return this rollout with its part of a GPU that `number` members of a sweep share."""
        del number
        return self

    @property
    def sleeps(self) -> bool:
        """Whether the engine frees its memory during optimizer steps."""
        return False

    def engine(self, model: ModelSettings, device: Device, seed: int) -> AbstractContextManager[None]:
        """Return the context in which TRL builds its engine."""
        del model, device, seed
        return nullcontext()
