"""The command that starts a vLLM server for a step, and which devices it has for itself.

One source of truth: what `plan` shows is what the supervisor runs, with an address behind it. The flags are those that
TRL 1.16 asks of a server it trains with (trl.generation.vllm_client): the developer endpoints and the NCCL engine
carry new weights, the log-probabilities are those of the distribution that was sampled from.
"""

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from r1exp.launcher.base import Device
from r1exp.serving.settings import VllmServer

_TAIL = 12  # lines of the server's log that are shown
_LONGEST = 400  # characters of its error in a message
# The end of a traceback, whichever process of the server it is from; pydantic says why on the line after it.
_ERROR = re.compile(
    r"^(?:\(.*?pid=\d+\) )?(?:ERROR .*?\] )?((?:\w+\.)*\w*(?:Error|Exception): .+(?:\n\s+Value error, .+)?)",
    re.MULTILINE,
)
_NOT_INSTALLED = re.compile(r"No module named '?vllm'?$", re.MULTILINE)
_UNHELPFUL = ("Engine core initialization failed", "EngineDeadError")  # they follow from another one
# What vLLM 0.31 says, in small letters -> what a person can do about it.
_ADVICE = (
    ("address already in use", "the port was taken meanwhile: set rollout.port=null for a free one"),
    (
        "out of memory",
        "its device has too little memory: lower rollout.gpu_memory_utilization or rollout.max_model_length, "
        "or share the model out with rollout.tensor_parallel_size",
    ),
    ("desired gpu memory utilization", "others use its device: lower rollout.gpu_memory_utilization"),
    ("available memory on node", "this machine has too little memory: lower rollout.cpu_kvcache_gib"),
    (
        "kv cache",
        "the cache is too small or too large: change rollout.gpu_memory_utilization (rollout.cpu_kvcache_gib without a "
        "GPU), or lower rollout.max_model_length",
    ),
    ("architecture", "this vLLM does not know the model's architecture: use rollout=hf"),
)  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """What to start; one line of JSON."""

    arguments: tuple[str, ...]  # of Python, without --host and --port
    environment: dict[str, str]  # added to the supervisor's own
    host: str | None  # address to listen on; None: this node's own
    port: int | None  # None: a free one
    restarts: int  # starts after the first


@dataclass(frozen=True)
class ServerLaunch:
    """One server of one step."""

    arguments: tuple[str, ...]  # of Python, without --host and --port
    environment: dict[str, str]  # added to the supervisor's own
    host: str | None  # None: the private address of whichever node it runs on
    port: int | None  # None: a free one
    restarts: int  # starts after the first

    def text(self) -> str:
        """Return the command as a person would type it."""
        settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in self.environment.items())
        port = "FREE_PORT" if self.port is None else str(self.port)
        address = f"--host {self.host or 'NODE_ADDRESS'} --port {port}"
        return f"{settings} {shlex.join([sys.executable, *self.arguments])} {address}"

    def spec(self) -> Spec:
        """Return what the supervisor is told."""
        return Spec(self.arguments, self.environment, self.host, self.port, self.restarts)


@dataclass(frozen=True)
class Weights:
    """What a server serves."""

    model: str  # folder or hub id
    revision: str | None  # of a hub id; None: its main branch
    dtype: str  # what it computes in
    name: str  # what to call it: a client that finds another name talks to another server


def server_launch(
    settings: VllmServer,
    weights: Weights,
    device: Device,
    *,
    trains: bool,
    threads: int | None = None,
    devices: Sequence[str] = (),
    asked_from_afar: bool = False,
) -> ServerLaunch:
    """Return how the server of a step is started.

    Args:
        settings: The rollout.
        weights: What it serves.
        device: cpu or cuda.
        trains: The policy is trained, so that the server takes new weights over NCCL.
        threads: OpenMP's on a CPU; None: as many as cores.
        devices: CUDA devices for it alone; empty: what the machine it runs on shows it.
        asked_from_afar: Other nodes ask it, so that it listens on whichever address its node has.
    """
    environment = {"HF_HUB_DISABLE_TELEMETRY": "1", "VLLM_NO_USAGE_STATS": "1"}
    if device == "cpu":
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(settings.cpu_kvcache_gib)
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # other processes have their places on the cores
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
    if devices:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    if trains:
        environment["VLLM_SERVER_DEV_MODE"] = "1"
    # A server that died while the policy trains has lost its weights and its place in the NCCL group.
    return ServerLaunch(
        arguments=tuple(_arguments(settings, weights, device, trains)),
        environment=environment,
        host=None if asked_from_afar else settings.host,
        port=settings.port,
        restarts=0 if trains else settings.restarts,
    )


def _arguments(settings: VllmServer, weights: Weights, device: Device, trains: bool) -> list[str]:
    """Return the words behind `python`."""
    words = [
        "-m", "vllm.entrypoints.openai.api_server",
        "--model", weights.model, "--served-model-name", weights.name, "--dtype", weights.dtype,
        "--generation-config", "vllm",  # not the model's own: every request states all it wants
        "--logprobs-mode", "processed_logprobs",
        "--tensor-parallel-size", str(settings.tensor_parallel_size),
        "--data-parallel-size", str(settings.num_copies),
        "--disable-uvicorn-access-log",
    ]  # fmt: skip
    if weights.revision is not None:
        words += ["--revision", weights.revision, "--tokenizer-revision", weights.revision]
    if settings.max_model_length is not None:
        words += ["--max-model-len", str(settings.max_model_length)]
    if settings.enforce_eager or device == "cpu":
        words.append("--enforce-eager")
    if device == "cuda":
        words += ["--gpu-memory-utilization", str(settings.gpu_memory_utilization)]
    if trains:
        words += ["--weight-transfer-config", '{"backend": "nccl"}', "--max-logprobs", "-1"]
        words.append("--enable-scale-out")
    return words


def served_name(key: str) -> str:
    """Return what the server of the step with this key calls its model."""
    return f"r1exp-{key}"


def why_it_died(log: str) -> str:
    """Return the error in a server's log, and what can be done about it, on one line."""
    if _NOT_INSTALLED.search(log):
        return "vLLM is not installed there: `r1exp doctor` says how to get it"
    errors = [" ".join(match.group(1).split()) for match in _ERROR.finditer(log)]
    causes = [error for error in errors if not any(words in error for words in _UNHELPFUL)]
    found = causes[-1] if causes else "it said nothing of an error"
    advice = next((text for words, text in _ADVICE if words in found.lower()), None)
    return f"{found[:_LONGEST]}{f'; {advice}' if advice else ''}"


def last_lines(log: str) -> str:
    """Return the end of a log, set in."""
    return "".join(f"    {line[:200]}\n" for line in log.strip().splitlines()[-_TAIL:])
