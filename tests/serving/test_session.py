"""Starting, watching and ending a server, with a fake of vLLM; tests/integration/test_vllm_server.py uses the real one."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from r1exp.__main__ import main
from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.errors import StepFailed
from r1exp.files import read_json
from r1exp.paths import RunPaths, StepPaths
from r1exp.rollout.settings import HfRollout
from r1exp.serving.session import serving
from r1exp.serving.settings import VllmServer
from r1exp.serving.supervisor import own_address
from r1exp.stage.config import StepConfig
from r1exp.stage.step import Step
from r1exp.step.status import read_status

HERE = Path(__file__).parent
MakeStep = Callable[..., Step]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def evaluation() -> StepConfig:
    with session():
        overrides = [
            "stage=evaluate",
            "rollout=vllm_server",
            "launcher.device=cpu",
            "rollout.start_timeout=60.0",
        ]
        return experiment_from(overrides).steps[0].config


@pytest.fixture
def served_step(evaluation: StepConfig, tmp_path: Path) -> MakeStep:
    """Return a function from server settings to an evaluation step whose model is in the test's own folder."""

    def make(**settings: object) -> Step:
        rollout = VllmServer.model_validate(evaluation.rollout.model_dump() | settings)
        return Step(
            name="evaluate", index=1, run_id="run", run_name="run", key="0123", data="0", device="cpu", world_size=1,
            config=evaluation.model_copy(update={"rollout": rollout}), trainer_args={}, model_path=str(tmp_path),
        )  # fmt: skip

    return make


@pytest.fixture(autouse=True)
def fake_vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Put the fake before any real vLLM, and check afterwards that none of its processes is left."""
    monkeypatch.setenv("PYTHONPATH", str(HERE / "fake_vllm"), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_ENGINE", f"3600.{os.getpid()}{abs(hash(tmp_path)) % 10**6}")
    monkeypatch.setenv("FAKE", "")
    yield
    assert seconds_until_gone(tmp_path) <= 10.0


def processes(folder: Path) -> list[psutil.Process]:
    """Return the processes of the test in `folder`: run, supervisor, server and engine."""
    marks = (str(folder), os.environ["FAKE_ENGINE"])
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or [])
        is_other = process.pid != os.getpid() and process.info["status"] != "zombie"
        if is_other and any(mark in command for mark in marks):
            found.append(process)
    return found


def state(folder: Path) -> dict[str, Any]:
    """Return the content of server.json."""
    content: dict[str, Any] = read_json(StepPaths(folder).server_state)
    return content


def seconds_until_gone(folder: Path) -> float:
    started = time.monotonic()
    while processes(folder) and time.monotonic() - started < 15.0:
        time.sleep(0.05)
    for process in processes(folder):
        process.kill()
    return time.monotonic() - started


def test_a_server_is_started_checked_and_ended(served_step: MakeStep, tmp_path: Path) -> None:
    with serving(served_step(), tmp_path) as server:
        assert server is not None
        assert httpx.get(f"{server.url}/v1/models").json()["data"][0]["id"] == "r1exp-0123"
        assert server.url.startswith("http://127.0.0.1:")
        assert len(processes(tmp_path)) == 3
    assert processes(tmp_path) == []
    assert state(tmp_path)["state"] == "ended"


def test_a_step_without_a_server_rollout_starts_no_server(served_step: MakeStep, tmp_path: Path) -> None:
    step = served_step()
    hf = step.config.model_copy(update={"rollout": HfRollout(kind="hf", batch_size=1)})
    with serving(step.model_copy(update={"config": hf}), tmp_path) as server:
        assert server is None
    assert processes(tmp_path) == []


@pytest.mark.parametrize(
    ("wrong", "settings", "sentence"),
    [
        pytest.param("die", {}, "lower rollout.gpu_memory_utilization", id="out of memory"),
        pytest.param("late", {"start_timeout": 3.0}, "did not answer within 3 s", id="start timeout"),
        pytest.param("other", {}, "serves ['another-model'] instead of r1exp-0123", id="another model"),
        pytest.param("raw", {}, "processed_logprobs", id="log-probabilities of another mode"),
        pytest.param("half", {}, "another dtype than float32", id="another dtype"),
    ],
)
def test_a_wrong_server_fails_with_the_reason(
    wrong: str, settings: dict[str, float], sentence: str,
    served_step: MakeStep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("FAKE", wrong)
    with pytest.raises(StepFailed) as raised, serving(served_step(**settings), tmp_path):
        pass
    assert sentence in str(raised.value)
    assert processes(tmp_path) == []


def test_a_port_that_is_taken_fails_before_anything_starts(served_step: MakeStep, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        step = served_step(port=port)
        with pytest.raises(StepFailed, match=f"port {port} of 127.0.0.1 is taken"), serving(step, tmp_path):
            pass
    assert "FAKE" not in StepPaths(tmp_path).server_log.read_text()


def test_the_port_stays_reserved_while_the_server_restarts(served_step: MakeStep, tmp_path: Path) -> None:
    with serving(served_step(), tmp_path) as server:
        assert server is not None
        port = int(server.url.rpartition(":")[2])
        os.kill(state(tmp_path)["pid"], signal.SIGKILL)
        wait_for(lambda: not answers(server.url))
        with pytest.raises(OSError), socket.socket() as other:
            other.bind(("127.0.0.1", port))


def test_a_server_that_exits_is_restarted_on_the_same_address_as_often_as_allowed(
    served_step: MakeStep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(StepFailed, match=r"killed by SIGKILL.* after 2 start"),
        serving(served_step(restarts=1), tmp_path) as server,
    ):
        assert server is not None
        url, first = server.url, state(tmp_path)["pid"]
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: state(tmp_path)["state"] == "running" and answers(url), server.watch)
        assert state(tmp_path)["pid"] != first
        assert len(processes(tmp_path)) == 3  # the first engine has ended
        os.kill(state(tmp_path)["pid"], signal.SIGKILL)
        wait_for(lambda: False, server.watch)
    assert "restarted (1 of 1)" in capsys.readouterr().err


@pytest.mark.parametrize("restarts", [0, 1], ids=["not restarted", "restarted"])
def test_a_server_that_is_killed_in_its_first_request_is_noticed_at_once(
    restarts: int, served_step: MakeStep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    monkeypatch.setenv("FAKE", "mute")
    monkeypatch.setenv("FAKE_MUTE", str(asked))
    killed: list[float] = []

    def kill() -> None:
        wait_for(asked.exists)
        os.kill(state(tmp_path)["pid"], signal.SIGKILL)
        killed.append(time.monotonic())

    threading.Thread(target=kill).start()
    if restarts:
        with serving(served_step(restarts=1), tmp_path) as server:
            assert server is not None and answers(server.url)
            assert state(tmp_path)["starts"] == 2
    else:
        message = r"the vLLM server ended \(killed by SIGKILL\) after 1 start"
        with pytest.raises(StepFailed, match=message), serving(served_step(restarts=0), tmp_path):
            pass
    assert time.monotonic() - killed[0] < 15.0  # instead of the 60 s of a probe


def test_a_dead_proxy_in_the_environment_does_not_keep_the_run_from_its_server(
    served_step: MakeStep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    with serving(served_step(start_timeout=20.0), tmp_path) as server:
        assert server is not None


def test_killing_the_supervisor_ends_the_server(served_step: MakeStep, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="supervisor"), serving(served_step(), tmp_path) as server:
        assert server is not None
        (supervisor,) = (p for p in processes(tmp_path) if "r1exp.serving.supervisor" in p.cmdline())
        supervisor.kill()
        wait_for(lambda: False, server.watch)


@pytest.mark.parametrize(
    ("moment", "number", "wrong"),
    [
        pytest.param("starting", signal.SIGKILL, "late", id="kill -9 while it starts"),
        pytest.param("ready", signal.SIGKILL, "", id="kill -9"),
        pytest.param("ready", signal.SIGKILL, "stubborn", id="kill -9, and a server that ignores SIGTERM"),
        pytest.param("ready", signal.SIGTERM, "", id="SIGTERM"),
    ],
)
def test_no_process_is_left_ten_seconds_after_the_run_was_killed(
    moment: str, number: signal.Signals, wrong: str,
    served_step: MakeStep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("FAKE", wrong)
    served_step().write(tmp_path)
    run = subprocess.Popen([sys.executable, HERE / "run_served.py", tmp_path], stderr=subprocess.DEVNULL)
    if moment == "ready":
        wait_for((tmp_path / "ready").exists)
    wait_for(lambda: len(processes(tmp_path)) == 4)  # the run, supervisor, server, engine
    run.send_signal(number)
    run.wait()
    assert seconds_until_gone(tmp_path) <= 10.0


SRUN = """#!/usr/bin/env python3
import os, sys
command = sys.argv[1:]
while command[0].startswith("--"):
    command = command[1:]
os.execvp(command[0], command)
"""


def test_a_server_on_its_own_node_runs_under_srun_and_listens_on_the_address_of_that_node(
    served_step: MakeStep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(SRUN)
    (tmp_path / "bin" / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    with session():
        slurm = ["stage=evaluate", "rollout=vllm_server", "launcher=slurm", "launcher.server_nodes=1"]
        launcher = experiment_from(slurm).steps[0].config.launcher
    step = served_step()
    config = step.config.model_copy(update={"launcher": launcher})
    with serving(step.model_copy(update={"config": config}), tmp_path) as server:
        assert server is not None
        assert answers(server.url)
        assert server.url.startswith(f"http://{own_address()}:")


def test_a_run_whose_server_cannot_start_fails_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(HERE / "fake_vllm")
    overrides = [
        "stage=evaluate",
        "rollout=vllm_server",
        "launcher.device=cpu",
        "tracking=none",
        "paths.run=run",
    ]
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main([*overrides, f"rollout.port={port}"]) == 3
    status = read_status(RunPaths(tmp_path / "run").step(1, "evaluate").folder)
    assert status is not None
    assert (status.state, status.artifact) == ("failed", None)
    assert f"port {port} of 127.0.0.1 is taken by another program" in (status.reason or "")
    assert f"port {port} of 127.0.0.1 is taken" in capsys.readouterr().err


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=1.0).status_code == 200
    except httpx.HTTPError:
        return False


def wait_for(condition: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
    end = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < end
        meanwhile()
        time.sleep(0.1)
