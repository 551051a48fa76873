"""The life of a server, with a small one that looks like vLLM's; tests/integration/test_vllm_server.py has the real one."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from r1exp.__main__ import main
from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.errors import StepFailed
from r1exp.files import read_json
from r1exp.rollout.settings import HfRollout
from r1exp.serving.session import serving
from r1exp.serving.settings import VllmServer
from r1exp.serving.supervisor import STATE, own_address
from r1exp.stage.config import StepConfig
from r1exp.stage.step import Step
from r1exp.step.status import read_status

HERE = Path(__file__).parent
MakeStep = Callable[..., Step]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def evaluation() -> StepConfig:
    with session():
        line = ["stage=evaluate", "rollout=vllm_server", "launcher.device=cpu", "rollout.start_timeout=60.0"]
        return experiment_from(line).steps[0].config


@pytest.fixture
def served_step(evaluation: StepConfig, tmp_path: Path) -> MakeStep:
    """Return a function from settings of the server to an evaluation whose model lies in the test's own folder."""

    def make(**settings: object) -> Step:
        rollout = VllmServer.model_validate(evaluation.rollout.model_dump() | settings)
        return Step(
            name="evaluate", index=1, run_id="run", run_name="run", key="0123", data="0", device="cpu", world_size=1,
            config=evaluation.model_copy(update={"rollout": rollout}), trainer_args={}, model_path=str(tmp_path),
        )  # fmt: skip

    return make


@pytest.fixture(autouse=True)
def fake_vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Put the fake before any real vLLM; afterwards nothing of it may be left."""
    monkeypatch.setenv("PYTHONPATH", str(HERE / "fake_vllm"), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_ENGINE", f"3600.{os.getpid()}{abs(hash(tmp_path)) % 10**6}")
    monkeypatch.setenv("FAKE", "")
    yield
    assert seconds_until_gone(tmp_path) <= 10.0


def processes(folder: Path) -> list[psutil.Process]:
    """Return what runs for the test in `folder`: its supervisor, its server, its engine."""
    marks = (str(folder), os.environ["FAKE_ENGINE"])
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        if (
            process.pid != os.getpid()
            and process.info["status"] != "zombie"
            and any(m in words for m in marks)
        ):
            found.append(process)
    return found


def seconds_until_gone(folder: Path) -> float:
    begun = time.monotonic()
    while processes(folder) and time.monotonic() - begun < 15.0:
        time.sleep(0.05)
    for process in processes(folder):
        process.kill()
    return time.monotonic() - begun


def test_a_server_is_started_checked_and_ended(served_step: MakeStep, tmp_path: Path) -> None:
    with serving(served_step(), tmp_path) as server:
        assert server is not None
        assert httpx.get(f"{server.url}/v1/models").json()["data"][0]["id"] == "r1exp-0123"
        assert server.url.startswith("http://127.0.0.1:")
        assert len(processes(tmp_path)) == 3
    assert processes(tmp_path) == []
    assert read_json(tmp_path / STATE)["state"] == "ended"


def test_a_step_that_asks_no_server_gets_none(served_step: MakeStep, tmp_path: Path) -> None:
    step = served_step()
    hf = step.config.model_copy(update={"rollout": HfRollout(kind="hf", batch_size=1)})
    with serving(step.model_copy(update={"config": hf}), tmp_path) as server:
        assert server is None
    assert processes(tmp_path) == []


@pytest.mark.parametrize(
    ("wrong", "settings", "sentence"),
    [
        pytest.param("die", {}, "lower rollout.gpu_memory_utilization", id="out of memory"),
        pytest.param("late", {"start_timeout": 3.0}, "did not answer within 3 s", id="too slow"),
        pytest.param("other", {}, "serves ['somebody-else'] instead of r1exp-0123", id="another model"),
        pytest.param("raw", {}, "processed_logprobs", id="log-probabilities of another mode"),
        pytest.param("half", {}, "another dtype than float32", id="another dtype"),
    ],
)
def test_a_server_that_is_not_what_was_asked_for_fails_in_plain_words(
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
    assert "FAKE" not in (tmp_path / "server.log").read_text()


def test_the_port_is_kept_from_before_the_server_listens(served_step: MakeStep, tmp_path: Path) -> None:
    with serving(served_step(), tmp_path) as server:
        assert server is not None
        port = int(server.url.rpartition(":")[2])
        os.kill(read_json(tmp_path / STATE)["pid"], signal.SIGKILL)
        wait_for(lambda: not answers(server.url))
        with pytest.raises(OSError), socket.socket() as thief:
            thief.bind(("127.0.0.1", port))


def test_a_server_that_dies_is_started_again_on_the_same_address_as_often_as_allowed(
    served_step: MakeStep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(StepFailed, match=r"killed by SIGKILL.* after 2 start"),
        serving(served_step(restarts=1), tmp_path) as server,
    ):
        assert server is not None
        url, first = server.url, read_json(tmp_path / STATE)["pid"]
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: read_json(tmp_path / STATE)["state"] == "running" and answers(url), server.watch)
        assert read_json(tmp_path / STATE)["pid"] != first
        assert len(processes(tmp_path)) == 3  # the first engine is gone
        os.kill(read_json(tmp_path / STATE)["pid"], signal.SIGKILL)
        wait_for(lambda: False, server.watch)
    assert "started again (1 of 1)" in capsys.readouterr().err


def test_a_supervisor_that_is_killed_takes_the_server_along(served_step: MakeStep, tmp_path: Path) -> None:
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
def test_nothing_is_left_ten_seconds_after_the_run_was_killed(
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
words = sys.argv[1:]
while words[0].startswith("--"):
    words = words[1:]
os.execvp(words[0], words)
"""


def test_a_server_with_a_node_of_its_own_runs_under_srun_and_is_reached_by_that_nodes_address(
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


def test_a_run_whose_server_cannot_start_fails_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(HERE / "fake_vllm")
    words = ["stage=evaluate", "rollout=vllm_server", "launcher.device=cpu", "tracking=none", "paths.run=run"]
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main([*words, f"rollout.port={port}"]) == 3
    status = read_status(tmp_path / "run" / "steps" / "01-evaluate")
    assert status is not None
    assert (status.state, status.artifact) == ("failed", None)
    assert f"port {port} of 127.0.0.1 is taken by another program" in (status.reason or "")
    assert f"port {port} of 127.0.0.1 is taken" in capsys.readouterr().err


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=1.0).status_code == 200
    except httpx.HTTPError:
        return False


def wait_for(is_so: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
    end = time.monotonic() + 60.0
    while not is_so():
        assert time.monotonic() < end
        meanwhile()
        time.sleep(0.1)
