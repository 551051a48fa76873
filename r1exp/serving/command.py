"""Builds the command that starts a vLLM server for a step, and explains why a server failed from its log.

`plan` shows the command that the supervisor runs; the supervisor appends the address. The flags are those that TRL 1.16
requires of a server it trains with (trl.generation.vllm_client): developer endpoints and NCCL transfer new weights, and
log-probabilities are those of the distribution that was sampled from.
"""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from r1exp.launcher.base import Device, loopback_interface
from r1exp.serving.settings import VllmServer

_TAIL = 12  # lines of the server's log that are shown
_MAX_ERROR_LENGTH = 400  # characters of its error in a message
# The last line of a traceback of any process of the server; pydantic states the reason on the line after it.
_ERROR = re.compile(
    r"^(?:\(.*?pid=\d+\) )?(?:ERROR .*?\] )?((?:\w+\.)*\w*(?:Error|Exception): .+(?:\n\s+Value error, .+)?)",
    re.MULTILINE,
)
_NOT_INSTALLED = re.compile(r"No module named '?vllm'?$", re.MULTILINE)
_CONSEQUENCES = ("Engine core initialization failed", "EngineDeadError")  # follow from an earlier error
# Part of an error of vLLM 0.31, in lower case -> what the user can do about it.
_ADVICE = (
    ("address already in use", "another program took the port: set rollout.port=null for a free one"),
    (
        "out of memory",
        "its device has too little memory: lower rollout.gpu_memory_utilization or rollout.max_model_length, "
        "or split the model over devices with rollout.tensor_parallel_size",
    ),
    ("desired gpu memory utilization", "other processes use its device: lower rollout.gpu_memory_utilization"),
    ("available memory on node", "this machine has too little memory: lower rollout.cpu_kvcache_gib"),
    (
        "kv cache",
        "the cache is too small or too large: change rollout.gpu_memory_utilization (rollout.cpu_kvcache_gib without a "
        "GPU), or lower rollout.max_model_length",
    ),
    ("architecture", "this version of vLLM does not support the model's architecture: use rollout=hf"),
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
    """How the server of one step is started."""

    arguments: tuple[str, ...]  # of Python, without --host and --port
    environment: dict[str, str]  # added to the supervisor's own
    host: str | None  # None: the private address of whichever node it runs on
    port: int | None  # None: a free one
    restarts: int  # starts after the first

    def text(self) -> str:
        """Return the command as it would be typed in a shell."""
        settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in self.environment.items())
        port = "FREE_PORT" if self.port is None else str(self.port)
        address = f"--host {self.host or 'NODE_ADDRESS'} --port {port}"
        return f"{settings} {shlex.join([sys.executable, *self.arguments])} {address}"

    def spec(self) -> Spec:
        """Return what the supervisor receives."""
        return Spec(self.arguments, self.environment, self.host, self.port, self.restarts)


@dataclass(frozen=True)
class Weights:
    """The model that a server serves."""

    model: str  # folder or hub id
    revision: str | None  # of a hub id; None: its main branch
    dtype: str  # compute dtype
    name: str  # of the served model: a client that finds another name is connected to another server
    trusts_code: bool = False  # whether the code of its repository may run


def server_launch(
    settings: VllmServer,
    weights: Weights,
    device: Device,
    *,
    trains: bool,
    threads: int | None = None,
    devices: Sequence[str] = (),
    serves_other_nodes: bool = False,
) -> ServerLaunch:
    """Return how the server of a step is started.

    Args:
        settings: The rollout.
        weights: The model it serves.
        device: cpu or cuda.
        trains: The policy is trained, so that the server receives new weights over NCCL.
        threads: OpenMP threads on a CPU; None: as many as cores.
        devices: CUDA devices for the server alone; empty: all that are visible on its machine.
        serves_other_nodes: Other nodes send requests, so that it listens on its node's private address.
    """
    environment = {"HF_HUB_DISABLE_TELEMETRY": "1", "VLLM_NO_USAGE_STATS": "1"}
    if device == "cpu":
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(settings.cpu_kvcache_gib)
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # other processes use the same cores
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
    interface = None if serves_other_nodes else loopback_interface()
    if interface is not None:  # else gloo listens at the address of the host's name
        environment["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", interface)
    if devices:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    if trains:
        environment["VLLM_SERVER_DEV_MODE"] = "1"
    # A server that exited during training cannot be restarted: its weights and its place in the NCCL group are lost.
    return ServerLaunch(
        arguments=tuple(_arguments(settings, weights, device, trains)),
        environment=environment,
        host=None if serves_other_nodes else settings.host,
        port=settings.port,
        restarts=0 if trains else settings.restarts,
    )


def _arguments(settings: VllmServer, weights: Weights, device: Device, trains: bool) -> list[str]:
    """Return the arguments of `python`."""
    arguments = [
        "-m", "vllm.entrypoints.openai.api_server",
        "--model", weights.model, "--served-model-name", weights.name, "--dtype", weights.dtype,
        "--generation-config", "vllm",  # not the model's own: every request states all sampling parameters
        "--logprobs-mode", "processed_logprobs",
        "--tensor-parallel-size", str(settings.tensor_parallel_size),
        "--data-parallel-size", str(settings.num_copies),
        "--disable-uvicorn-access-log",
    ]  # fmt: skip
    if weights.revision is not None:
        arguments += ["--revision", weights.revision, "--tokenizer-revision", weights.revision]
    if weights.trusts_code:
        arguments.append("--trust-remote-code")
        arguments += [] if weights.revision is None else ["--code-revision", weights.revision]
    if settings.max_model_length is not None:
        arguments += ["--max-model-len", str(settings.max_model_length)]
    if settings.enforce_eager or device == "cpu":
        arguments.append("--enforce-eager")
    if device == "cuda":
        arguments += ["--gpu-memory-utilization", str(settings.gpu_memory_utilization)]
    if trains:
        arguments += ["--weight-transfer-config", '{"backend": "nccl"}', "--max-logprobs", "-1"]
        arguments.append("--enable-scale-out")
    return arguments


def served_name(key: str) -> str:
    """Return the name under which the server of the step with this key serves its model."""
    return f"r1exp-{key}"


def failure_cause(log: str) -> str:
    """Return the error in a server's log and what the user can do about it, on one line."""
    if _NOT_INSTALLED.search(log):
        return "vLLM is not installed there: `r1exp doctor` says how to install it"
    errors = [" ".join(match.group(1).split()) for match in _ERROR.finditer(log)]
    causes = [error for error in errors if not any(part in error for part in _CONSEQUENCES)]
    found = causes[-1] if causes else "its log names no error"
    advice = next((text for part, text in _ADVICE if part in found.lower()), None)
    return f"{found[:_MAX_ERROR_LENGTH]}{f'; {advice}' if advice else ''}"


def last_lines(log: str) -> str:
    """Return the last lines of a log, indented."""
    return "".join(f"    {line[:200]}\n" for line in log.strip().splitlines()[-_TAIL:])
