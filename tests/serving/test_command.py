"""The exact command that starts a server, and how devices are split between ranks and server."""

import sys
from dataclasses import replace
from typing import Any

import pytest

from r1exp.errors import Refused
from r1exp.launcher.base import loopback_interface
from r1exp.launcher.local import Local
from r1exp.serving.command import Weights, failure_cause, server_launch
from r1exp.serving.devices import split_devices
from r1exp.serving.settings import VllmServer

LOCAL = Local(kind="local", num_processes=1, device="auto", threads_per_process=None)


def server(**changes: Any) -> VllmServer:
    values: dict[str, Any] = {
        "kind": "vllm_server", "num_devices": 1, "tensor_parallel_size": 1, "gpu_memory_utilization": 0.9,
        "max_model_length": None, "enforce_eager": False, "cpu_kvcache_gib": 2, "host": "127.0.0.1", "port": None,
        "start_timeout": 60.0, "restarts": 2, "importance_correction": None,
    }  # fmt: skip
    return VllmServer.model_validate(values | changes)


def weights(model: str = "m", revision: str | None = None, dtype: str = "float32") -> Weights:
    return Weights(model, revision, dtype, "r1exp-12ab")


@pytest.mark.parametrize("model", ["/runs/a b/it's $HOME/ü中", "Qwen/Qwen2.5-0.5B"])
def test_command_of_an_evaluation_server_on_a_cpu(model: str) -> None:
    launch = server_launch(server(), weights(model), "cpu", trains=False, threads=1)
    assert launch.arguments == (
        "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--served-model-name", "r1exp-12ab",
        "--dtype", "float32", "--generation-config", "vllm", "--logprobs-mode", "processed_logprobs",
        "--tensor-parallel-size", "1", "--data-parallel-size", "1", "--disable-uvicorn-access-log", "--enforce-eager",
    )  # fmt: skip
    assert launch.environment == {
        "HF_HUB_DISABLE_TELEMETRY": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback_interface(),
    }  # fmt: skip
    assert (launch.host, launch.port, launch.restarts) == ("127.0.0.1", None, 2)


def test_a_server_for_training_has_the_flags_that_trl_requires_and_its_own_devices() -> None:
    settings = server(num_devices=4, tensor_parallel_size=2, max_model_length=1024, port=8000)
    served = weights(revision="v1", dtype="bfloat16")
    launch = server_launch(settings, served, "cuda", trains=True, devices=("4", "5", "6", "7"))
    assert launch.arguments == (
        "-m", "vllm.entrypoints.openai.api_server", "--model", "m", "--served-model-name", "r1exp-12ab",
        "--dtype", "bfloat16", "--generation-config", "vllm", "--logprobs-mode", "processed_logprobs",
        "--tensor-parallel-size", "2", "--data-parallel-size", "2", "--disable-uvicorn-access-log",
        "--revision", "v1", "--tokenizer-revision", "v1", "--max-model-len", "1024", "--gpu-memory-utilization", "0.9",
        "--weight-transfer-config", '{"backend": "nccl"}', "--max-logprobs", "-1", "--enable-scale-out",
    )  # fmt: skip
    assert launch.environment == {
        "HF_HUB_DISABLE_TELEMETRY": "1", "VLLM_NO_USAGE_STATS": "1", "CUDA_VISIBLE_DEVICES": "4,5,6,7",
        "VLLM_SERVER_DEV_MODE": "1", "GLOO_SOCKET_IFNAME": loopback_interface(),
    }  # fmt: skip
    assert launch.restarts == 0  # a restarted server would not have the policy's weights


def test_the_server_of_a_trusted_model_runs_its_code_at_the_same_commit() -> None:
    trusted = replace(weights(revision="v1"), trusts_code=True)
    launch = server_launch(server(), trusted, "cpu", trains=False)
    assert launch.arguments == (
        "-m", "vllm.entrypoints.openai.api_server", "--model", "m", "--served-model-name", "r1exp-12ab",
        "--dtype", "float32", "--generation-config", "vllm", "--logprobs-mode", "processed_logprobs",
        "--tensor-parallel-size", "1", "--data-parallel-size", "1", "--disable-uvicorn-access-log",
        "--revision", "v1", "--tokenizer-revision", "v1", "--trust-remote-code", "--code-revision", "v1",
        "--enforce-eager",
    )  # fmt: skip


def test_a_server_for_other_nodes_listens_on_the_address_of_its_node() -> None:
    launch = server_launch(server(), weights(), "cpu", trains=False, serves_other_nodes=True)
    assert launch.host is None
    assert launch.text().endswith("--host NODE_ADDRESS --port FREE_PORT")


def test_the_shown_command_is_quoted_for_the_shell() -> None:
    settings = server(port=8000)
    text = server_launch(settings, weights("it's here"), "cuda", trains=True).text()
    assert f" VLLM_SERVER_DEV_MODE=1 {sys.executable} -m vllm" in text
    assert "--model 'it'\"'\"'s here'" in text
    assert '--weight-transfer-config \'{"backend": "nccl"}\'' in text
    assert text.endswith("--host 127.0.0.1 --port 8000")


@pytest.mark.parametrize(
    ("num_ranks", "num_server", "trains", "expected"),
    [
        pytest.param(6, 2, True, (("0", "1", "2", "3", "4", "5"), ("6", "7")), id="side by side"),
        pytest.param(4, 1, True, (("0", "1", "2", "3"), ("4",)), id="some devices unused"),
        pytest.param(8, 8, False, (tuple("01234567"), tuple("01234567")), id="ranks that only send requests"),
        pytest.param(1, 2, False, (("0",), ("6", "7")), id="one rank that only sends requests"),
    ],
)
def test_devices_are_split(num_ranks: int, num_server: int, trains: bool, expected: tuple) -> None:
    assert split_devices("01234567", num_ranks, num_server, trains) == expected


@pytest.mark.parametrize("trains", [True, False])
def test_too_few_devices_are_refused_with_an_alternative(trains: bool) -> None:
    with pytest.raises(Refused, match=r"num_devices=2 .*shows 1 CUDA.*rollout=vllm_colocate"):
        split_devices(["0"], 1, 2, trains)


@pytest.mark.parametrize(("value", "expected"), [("3, GPU-ab", ("3", "GPU-ab")), ("", ())])
def test_devices_are_read_from_cuda_visible_devices(
    value: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert LOCAL.devices() == expected


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        pytest.param(
            "(EngineCore pid=7) ERROR 11-20 16:01:01 [core.py:9] torch.OutOfMemoryError: CUDA out of memory.\n"
            "(APIServer pid=6) RuntimeError: Engine core initialization failed. See root cause above.",
            "OutOfMemoryError: CUDA out of memory.; its device has too little memory: lower rollout.gpu_memory",
            id="the root cause instead of its consequences",
        ),
        pytest.param(
            "python: No module named vllm", "`r1exp doctor` says how to install it", id="not installed"
        ),
        pytest.param(
            "WARNING failed with error `OSError: [Errno 24] Too many open files`\nNo module named 'vllm._C'",
            "its log names no error",
            id="warnings only",
        ),
        pytest.param("Killed", "its log names no error", id="no error"),
        pytest.param(
            "pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, no such architecture\n",
            "ModelConfig Value error, no such architecture; this version of vLLM does not support",
            id="pydantic's second line",
        ),
    ],
)
def test_the_cause_of_a_failure_is_found_in_the_log(log: str, expected: str) -> None:
    assert expected in failure_cause(log)
