"""Settings of the rollouts in the step's own process, and of the endpoint (conf/rollout/*.yaml). Torch-free."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from r1exp.errors import Refused
from r1exp.launcher.base import Device, Launcher
from r1exp.model.settings import ModelSettings
from r1exp.registry import load
from r1exp.rollout.base import Rollout, Share
from r1exp.settings import Name, Settings

# Sampling parameters that change the sampled distribution -> the value that leaves it unchanged.
_NEUTRAL = {"top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0}


class HfRollout(Rollout):
    """Generation with transformers, in the process that holds the model."""

    kind: Literal["hf"]
    batch_size: PositiveInt  # completions generated at once
    # Generation batches that a helper process samples ahead while the trainer trains: each is trained on with weights that are
    # as many batches newer. In no key where it is 0.
    staleness: NonNegativeInt = Field(default=0, exclude_if=lambda value: value == 0)
    # Seed the random numbers of each generation batch from the seed and the optimizer step alone, so that runs that differ in a
    # setting, such as forks, have common random numbers in every batch. In no key where it is false.
    seed_each_batch: bool = Field(default=False, exclude_if=lambda value: not value)

    generator = "r1exp.rollout.hf:generator"
    outside_key_of_training = frozenset({"batch_size"})  # the trainer generates its own batch
    outside_key_without_training = frozenset({"staleness", "seed_each_batch"})

    @property
    def batches_ahead(self) -> int:
        """Generation batches that are sampled before their turn."""
        return self.staleness

    @property
    def seeds_batches(self) -> bool:
        """Whether each generation batch has a seed of its own."""
        return self.seed_each_batch

    def check(self, launcher: Launcher, device: Device, trainer: Mapping[str, Any] | None) -> None:
        """Raise Refused if no process of its own can sample ahead."""
        if trainer is None or self.staleness == 0:
            return
        if self.seed_each_batch:
            raise Refused(
                "rollout.seed_each_batch=true seeds the process that trains, and with rollout.staleness another one samples; use "
                "rollout.staleness=0, or rollout.seed_each_batch=false"
            )
        if device != "cpu":
            raise Refused(
                f"rollout.staleness={self.staleness} has a second process sample with rollout=hf, and on a GPU it would share the "
                "device that trains; use rollout.staleness=0, or launcher.device=cpu"
            )
        if launcher.zero_stage or launcher.is_fully_sharded:
            raise Refused(
                f"rollout.staleness={self.staleness} hands the policy's weights to a second process, and "
                f"launcher={launcher.kind} partitions them; use launcher=local or launcher=ddp, or rollout.staleness=0"
            )

    def memory_note(self, device: Device) -> str | None:
        """Return a line for `plan` about the process that samples ahead."""
        del device
        if self.staleness == 0:
            return None
        return (
            "plus a process that samples ahead, for each rank: its own copy of the weights, and the sampling"
        )

    @property
    def rows_in_process(self) -> int:
        """Completions generated at once in the process that holds the model."""
        return self.batch_size


class ImportanceCorrection(Settings):
    """Weights the loss with the ratio of the trainer's to the sampler's probability.

    Source: https://fengyao.notion.site/off-policy-rl (truncated importance sampling); TRL 1.16,
    `vllm_importance_sampling_*`. TRL 1.16's RLOO has no correction and ignores these fields.
    """

    # per token or per completion; a ratio out of bounds is truncated to the bound, or its token or completion masked
    mode: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
    clip_max: PositiveFloat | None  # largest ratio; null: none
    clip_min: NonNegativeFloat | None  # smallest ratio; null: none


class VllmEngine(Rollout, ABC):
    """What every vLLM engine that r1exp starts is told."""

    gpu_memory_utilization: Share  # share of a GPU's memory for weights and cache
    max_model_length: (
        PositiveInt | None
    )  # tokens of prompt and completion; null: the longest that the data need
    tensor_parallel_size: PositiveInt  # devices that share one copy of the model
    enforce_eager: bool  # no CUDA graphs and no compilation: slower, but starts sooner
    cpu_kvcache_gib: PositiveInt  # GiB of the KV cache, without a GPU
    importance_correction: ImportanceCorrection | None  # null: none

    uses_vllm = True
    cannot_have: ClassVar[Mapping[str, str]] = {
        "staleness": "completions are sampled ahead in a process of their own, which rollout=hf has on a CPU; vLLM samples in the training process, or "
        "at a server whose answer TRL 1.16 waits for, so that nothing is trained meanwhile. Use rollout=hf launcher.device=cpu, or "
        "leave it out"
    }
    outside_key = frozenset({"gpu_memory_utilization", "enforce_eager", "cpu_kvcache_gib"})

    def among(self, number: int) -> Self:
        """Return this engine with its part of a GPU that `number` members of a sweep share."""
        return self.model_copy(update={"gpu_memory_utilization": self.gpu_memory_utilization / number})

    def with_longest(self, num_tokens: Callable[[], int | None]) -> Self:
        """Return this engine with a limit: vLLM reserves memory for one sequence of the whole limit of a model."""
        if self.max_model_length is not None:
            return self
        return self.model_copy(update={"max_model_length": num_tokens()})

    def length_limit(self, num_positions: int | None) -> tuple[int | None, str]:
        """Return the smaller of the model's limit and the engine's."""
        own = self.max_model_length
        if own is None or (num_positions is not None and num_positions <= own):
            return super().length_limit(num_positions)
        return own, f"rollout.max_model_length={own}"

    def check(self, launcher: Launcher, device: Device, trainer: Mapping[str, Any] | None) -> None:
        """Raise Refused if the sampling parameters make the importance ratio wrong."""
        if trainer is not None and self.importance_correction is not None:
            _refuse_truncated_sampling(trainer)

    def trainer_arguments(self, accepted: Container[str]) -> dict[str, Any]:
        """Return TRL's arguments for vLLM; TRL 1.16's RLOO has no importance correction."""
        arguments: dict[str, Any] = {"use_vllm": True, **self.mode_arguments()}
        if "vllm_importance_sampling_mode" in accepted:
            arguments |= _correction_arguments(self.importance_correction)
        return arguments

    @abstractmethod
    def mode_arguments(self) -> dict[str, Any]:
        """Return TRL's `vllm_mode` and the arguments of that mode."""


class VllmColocate(VllmEngine):
    """vLLM in the training process: it shares the device, and its weights are updated in place."""

    kind: Literal["vllm_colocate"]
    sleep: bool  # the engine frees its memory during optimizer steps; CUDA only
    share_alone: Share = 0.9  # share of a GPU's memory in steps that train nothing

    generator = "r1exp.rollout.vllm:generator"
    in_training = "r1exp.rollout.vllm:in_training"
    returns_logprobs = True
    outside_key = VllmEngine.outside_key | {"sleep", "share_alone"}

    def when_alone(self) -> Self:
        """Return this engine with the share of a device on which nothing is trained."""
        return self.model_copy(update={"gpu_memory_utilization": self.share_alone})

    def check(self, launcher: Launcher, device: Device, trainer: Mapping[str, Any] | None) -> None:
        """Raise Refused for what vLLM cannot do on a CPU, and if the ranks do not divide into copies of the model."""
        super().check(launcher, device, trainer)
        if device == "cpu" and self.sleep:
            raise Refused(
                "rollout.sleep=true frees the memory of a GPU, and this step runs on a CPU; leave it out"
            )
        if device == "cpu" and self.tensor_parallel_size > 1:
            raise Refused(
                f"rollout.tensor_parallel_size={self.tensor_parallel_size} splits a model over GPUs, and this step "
                "runs on a CPU; set rollout.tensor_parallel_size=1"
            )
        if launcher.num_processes % self.tensor_parallel_size:
            raise Refused(
                f"rollout.tensor_parallel_size={self.tensor_parallel_size} does not divide the "
                f"{launcher.num_processes} ranks, which share the copies of the model; change it or "
                "launcher.num_processes"
            )

    def refuse_unready(self, launcher: Launcher) -> None:
        """Raise Refused if vLLM is not installed; not checked for a job, whose nodes may have it."""
        if launcher.job is None:
            refuse_without_vllm(self.kind)

    def mode_arguments(self) -> dict[str, Any]:
        """Return TRL's arguments for a colocated engine."""
        return {
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": self.gpu_memory_utilization,
            "vllm_max_model_length": self.max_model_length,
            "vllm_tensor_parallel_size": self.tensor_parallel_size,
            "vllm_enable_sleep_mode": self.sleep,
        }

    def memory_note(self, device: Device) -> str:
        """Return a line for `plan` about the memory of the engine."""
        if device == "cpu":
            return f"plus vLLM: its own copy of the weights and a KV cache of {self.cpu_kvcache_gib} GiB"
        is_alone = self.gpu_memory_utilization == self.share_alone
        name = "share_alone" if is_alone else "gpu_memory_utilization"
        share = f"{100 * self.gpu_memory_utilization:.0f} % of the device"
        return f"plus vLLM: {share} (rollout.{name}){', while it generates' if self.sleep else ''}"

    def engine_bytes(self, device: Device, weights: int, capacity: int | None) -> int | None:
        """Return the memory of the engine, which shares the devices of the ranks."""
        if device == "cpu":
            return weights + (self.cpu_kvcache_gib << 30)
        return None if capacity is None else int(self.gpu_memory_utilization * capacity)

    @property
    def sleeps(self) -> bool:
        """Whether the engine frees its memory during optimizer steps."""
        return self.sleep

    def engine(self, model: ModelSettings, device: Device, seed: int) -> AbstractContextManager[None]:
        """Return the context in which TRL builds the engine as these settings say."""
        # Named by its path: the module imports vLLM.
        context: AbstractContextManager[None] = load("r1exp.rollout.vllm:colocated")(
            self, model, device, seed
        )
        return context


class Endpoint(Rollout):
    """Any OpenAI-compatible endpoint, for evaluation and sampling. Its weights cannot be updated."""

    kind: Literal["endpoint"]
    url: Annotated[str, Field(pattern=r"^https?://[^\s@]+$")]  # up to /v1: http://127.0.0.1:8000/v1
    model: Name  # name of the model at the endpoint
    api_key_env: Name | None  # NAME of the environment variable with the key, never the key; null: none
    timeout: PositiveFloat  # seconds for one request
    concurrency: PositiveInt  # requests at once
    deadline: PositiveFloat = (
        900.0  # seconds for one completion, with all pauses: a busy endpoint is asked until then
    )
    retries: (
        NonNegativeInt  # of a request that failed for a transient reason, except that the endpoint is busy
    )
    extra_body: dict[str, Any]  # further fields of every request, e.g. {top_k: -1, min_p: 0.0}
    requests_per_minute: PositiveInt | None = None  # the most requests that begin in 60 s; null: no limit
    # Completions that may be refused (status 400, 413 or 422: a prompt too long, a content filter) and stay empty.
    max_refused: NonNegativeInt = 0
    tokens_per_minute: PositiveInt | None = None  # tokens of prompts and completions; null: no limit

    generator = "r1exp.rollout.endpoint:generator"
    trains = False
    outside_key = frozenset(
        {
            "api_key_env",
            "timeout",
            "concurrency",
            "deadline",
            "retries",
            "requests_per_minute",
            "max_refused",
            "tokens_per_minute",
        }
    )

    @property
    def is_remote(self) -> bool:
        """Whether an endpoint serves a model of its own: always true."""
        return True

    def refuse_unready(self, launcher: Launcher) -> None:
        """Raise Refused if the environment variable with the key is not set."""
        api_key(self)


def api_key(settings: Endpoint) -> str | None:
    """Return the key of an endpoint, read from the environment; None if it needs none.

    Raises:
        Refused: the variable is not set.
    """
    if settings.api_key_env is None:
        return None
    key = os.environ.get(settings.api_key_env)
    if not key:
        raise Refused(
            f"rollout.api_key_env={settings.api_key_env}, and that environment variable is not set; type "
            f"export {settings.api_key_env}=..., or set rollout.api_key_env=null for an endpoint without keys"
        )
    return key


def refuse_without_vllm(kind: str) -> None:
    """Raise Refused if vLLM is not installed.

    Args:
        kind: The rollout, for the message.
    """
    if find_spec("vllm") is None:
        raise Refused(
            f"rollout={kind} needs vLLM, which is not installed here: `r1exp doctor` says how to install it; "
            "or use rollout=hf"
        )


def _refuse_truncated_sampling(trainer: Mapping[str, Any]) -> None:
    for name, neutral in _NEUTRAL.items():
        value = trainer.get(name, neutral)
        if value != neutral and not (name == "min_p" and value == 0.0):
            raise Refused(
                f"trainer.{name}={value} with rollout.importance_correction: vLLM returns the probabilities of the "
                "truncated distribution and the trainer those of the full one, so that every ratio is wrong (trl#6789); set "
                f"trainer.{name}={'null' if neutral is None else neutral}, or rollout.importance_correction=null"
            )


def _correction_arguments(correction: ImportanceCorrection | None) -> dict[str, Any]:
    if correction is None:
        return {"vllm_importance_sampling_correction": False}
    return {
        "vllm_importance_sampling_correction": True,
        "vllm_importance_sampling_mode": correction.mode,
        "vllm_importance_sampling_clip_max": correction.clip_max,
        "vllm_importance_sampling_clip_min": correction.clip_min,
    }
