"""What a sampler is told, and the menu of generators. conf/rollout/*.yaml. Torch-free."""

import os
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from r1exp.errors import Refused
from r1exp.records import Completion, Message
from r1exp.settings import Name, Settings

Share = Annotated[float, Field(gt=0.0, le=1.0)]


class Sampling(Settings):
    """How completions are drawn; nothing that a model's own generation config says overrides this."""

    temperature: NonNegativeFloat  # 0: greedy, the most likely token every time
    top_p: Share = 1.0  # nucleus; 1: every token may come
    top_k: NonNegativeInt = 0  # tokens; 0: every token may come
    max_tokens: PositiveInt  # tokens of a completion, the end token included
    seed: NonNegativeInt = 0


class Rollout(Settings):
    """What the rest of the code asks of every kind."""

    kind: str

    trains: ClassVar[bool] = True  # can generate for RL: it is given the policy's newest weights
    hands_logprobs: ClassVar[bool] = False  # rewards see the sampler's log-probability of each token
    aside: ClassVar[frozenset[str]] = frozenset()  # settings that do not decide which completions come

    def tightest(self, num_positions: int | None) -> tuple[int | None, str]:
        """Return the most tokens that prompt and completion may have together, and the words for it.

        Args:
            num_positions: Of the model; None: it names none.
        """
        return num_positions, f"the model's {num_positions} positions"


class HfRollout(Rollout):
    """Generation with transformers, in the process that holds the model."""

    kind: Literal["hf"]
    batch_size: PositiveInt  # completions generated at once


class ImportanceCorrection(Settings):
    """The ratio of the trainer's to the sampler's probability, which the loss is weighted with.

    Source: https://fengyao.notion.site/off-policy-rl (truncated importance sampling); TRL 1.16,
    `vllm_importance_sampling_*`. RLOO has none in TRL 1.16 and ignores it.
    """

    # per token or per completion; a ratio out of bounds is cut to the bound, or its item left out
    mode: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
    clip_max: PositiveFloat | None  # largest ratio; null: none
    clip_min: NonNegativeFloat | None  # smallest ratio; null: none


class _Vllm(Rollout):
    """What every vLLM engine that r1exp starts is told."""

    gpu_memory_utilization: Share  # share of a GPU's memory for weights and cache
    max_model_length: PositiveInt | None  # tokens of prompt and completion; null: what the model can
    tensor_parallel_size: PositiveInt  # devices that share one copy of the model
    enforce_eager: bool  # no CUDA graphs and no compilation: slower, starts sooner
    cpu_kvcache_gib: PositiveInt  # GiB of the cache of keys and values, without a GPU
    importance_correction: ImportanceCorrection | None  # null: none

    aside = frozenset({"gpu_memory_utilization", "enforce_eager", "cpu_kvcache_gib"})

    def tightest(self, num_positions: int | None) -> tuple[int | None, str]:
        """Return the model's limit, or the engine's where that is tighter."""
        own = self.max_model_length
        if own is None or (num_positions is not None and num_positions <= own):
            return super().tightest(num_positions)
        return own, f"rollout.max_model_length={own}"


class VllmColocate(_Vllm):
    """vLLM in the process that trains: it shares the device, and its weights are written in place."""

    kind: Literal["vllm_colocate"]
    sleep: bool  # the engine gives its memory back while the trainer updates; CUDA only

    hands_logprobs = True
    aside = _Vllm.aside | {"sleep"}


class VllmServer(_Vllm):
    """A vLLM server that the launcher starts, watches and ends."""

    kind: Literal["vllm_server"]
    num_devices: (
        PositiveInt  # GPUs that the server has for itself, a copy for every tensor_parallel_size of them
    )
    host: (
        Name  # loopback or a private address: the server's developer endpoints are open to whoever reaches it
    )
    port: PositiveInt | None  # null: a free one
    start_timeout: PositiveFloat  # seconds until it must answer
    restarts: NonNegativeInt  # how often it is started again after it died; never while a policy trains

    aside = _Vllm.aside | {"num_devices", "host", "port", "start_timeout", "restarts"}

    @model_validator(mode="after")
    def _stays_private(self) -> Self:
        if self.host != "localhost" and not is_private(self.host):
            raise ValueError(
                f"host={self.host}: the server would be open to whoever reaches that address, and it obeys everybody; "
                "use host=127.0.0.1, or a private address of this machine (10.x, 192.168.x, 172.16.x)"
            )
        return self

    @model_validator(mode="after")
    def _devices_hold_whole_copies(self) -> Self:
        if self.num_devices % self.tensor_parallel_size:
            raise ValueError(
                f"num_devices={self.num_devices} is no multiple of tensor_parallel_size={self.tensor_parallel_size}, "
                "the devices of one copy of the model; make it one"
            )
        return self

    @property
    def num_copies(self) -> int:
        """Copies of the model that answer side by side."""
        return self.num_devices // self.tensor_parallel_size


def is_private(host: str) -> bool:
    """Whether `host` is an address that only this machine or its private network reaches."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_private and not address.is_unspecified and not address.is_multicast


class Endpoint(Rollout):
    """Any OpenAI-compatible endpoint: for evaluation and sampling. Nobody can give it new weights."""

    kind: Literal["endpoint"]
    url: Annotated[str, Field(pattern=r"^https?://[^\s@]+$")]  # up to /v1: http://127.0.0.1:8000/v1
    model: Name  # its name there
    api_key_env: Name | None  # NAME of the environment variable with the key, never the key; null: none
    timeout: PositiveFloat  # seconds for one request
    concurrency: PositiveInt  # requests under way at once
    retries: NonNegativeInt  # of a request that failed for a passing reason
    extra_body: dict[str, Any]  # further fields of every request, e.g. {top_k: -1, min_p: 0.0}

    trains = False
    aside = frozenset({"api_key_env", "timeout", "concurrency", "retries"})


def api_key(settings: Endpoint) -> str | None:
    """Return the key of an endpoint, from the environment alone; None where it needs none.

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


RolloutSettings = Annotated[HfRollout | VllmColocate | VllmServer | Endpoint, Field(discriminator="kind")]


class Generator(Protocol):
    """Anything that answers prompts."""

    def generate(self, prompts: list[list[Message]], n: int, sampling: Sampling) -> list[list[Completion]]:
        """Return `n` completions of each prompt, in the order of the prompts."""
        ...
