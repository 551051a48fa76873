"""A real vLLM server on a CPU: its completions, its restart, and that none of its processes outlives the run by 10 s.

Needs the CPU build of vLLM (docs/rollouts.md). Most tests share one server, because a start takes half a minute.
"""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from r1exp.__main__ import main
from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.files import read_json
from r1exp.model.load import load_policy, load_tokenizer
from r1exp.paths import RunPaths, StepPaths
from r1exp.prompt.chat import messages
from r1exp.records import Message
from r1exp.rollout.base import Sampling
from r1exp.rollout.endpoint import EndpointGenerator
from r1exp.rollout.hf import HfGenerator
from r1exp.rollout.settings import Endpoint, HfRollout
from r1exp.serving.command import served_name
from r1exp.serving.generator import ServerGenerator
from r1exp.serving.settings import VllmServer
from r1exp.stage.config import StepConfig
from r1exp.stage.step import Step
from r1exp.step.status import read_status

TIMEOUT = 1800.0  # seconds; the machine may have other load
RUN_SERVED = Path(__file__).parents[1] / "serving" / "run_served.py"  # keeps a server until it is killed
KEY = "4711"
NUM_PROBLEMS = 64

pytestmark = [pytest.mark.integration, pytest.mark.slow]
if find_spec("vllm") is None:
    pytest.skip("needs vLLM: type make vllm", allow_module_level=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model that answers some problems correctly."""
    folder = tmp_path_factory.mktemp("trained")
    overrides = [
        "stage=sft",
        "max_steps=60",
        "evaluation.before=false",
        "evaluation.after=false",
        "tracking=none",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*overrides, "paths.run=run"]) == 0
    return folder / "run" / "steps" / "01-sft" / "artifact"


@pytest.fixture(scope="module")
def config() -> StepConfig:
    overrides = [
        "stage=evaluate",
        "rollout=vllm_server",
        f"rollout.start_timeout={TIMEOUT}",
        "rollout.restarts=1",
    ]
    with session():
        return experiment_from([*overrides, "launcher.device=cpu"]).steps[0].config


class RunningServer:
    """A server that another process keeps running."""

    def __init__(self, folder: Path, config: StepConfig, model: Path) -> None:
        self.folder = folder
        step = Step(
            name="evaluate", index=1, run_id="run", run_name="run", key=KEY, data="0", device="cpu", world_size=1,
            config=config, trainer_args={}, model_path=str(model),
        )  # fmt: skip
        step.write(folder)
        self.run = subprocess.Popen([sys.executable, RUN_SERVED, folder])

    @property
    def url(self) -> str:
        return (self.folder / "ready").read_text()

    @property
    def state(self) -> dict[str, Any]:
        content: dict[str, Any] = read_json(StepPaths(self.folder).server_state)
        return content

    def processes(self) -> list[psutil.Process]:
        """Return the run and all of its descendants."""
        return [psutil.Process(self.run.pid), *psutil.Process(self.run.pid).children(recursive=True)]


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, config: StepConfig, trained: Path
) -> Iterator[RunningServer]:
    server = RunningServer(tmp_path_factory.mktemp("running"), config, trained)
    wait_for(lambda: (server.folder / "ready").exists() or server.run.poll() is not None)
    yield server
    if server.run.poll() is None:
        server.run.terminate()
        server.run.wait(30)


@pytest.fixture(scope="module")
def questions(config: StepConfig) -> list[list[Message]]:
    problems = config.dataset.load("test")[:NUM_PROBLEMS]
    return [messages(problem.prompt, config.prompt) for problem in problems]


def generator_of(running: RunningServer, config: StepConfig, trained: Path) -> ServerGenerator:
    assert isinstance(config.rollout, VllmServer)
    tokenizer = load_tokenizer(str(trained), config.model)
    return ServerGenerator(
        running.url,
        served_name(KEY),
        tokenizer,
        model_path=str(trained),
        revision=None,
        settings=config.rollout,
    )


@pytest.fixture(scope="module")
def expected(config: StepConfig, trained: Path, questions: list[list[Message]]) -> list[Any]:
    """Return transformers' greedy completions."""
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(str(trained), config.model)
    generator = HfGenerator(
        load_policy(str(trained), config.model), tokenizer, HfRollout(kind="hf", batch_size=256)
    )
    return generator.generate(questions, 1, GREEDY)


GREEDY = Sampling(temperature=0.0, max_tokens=48)


def test_the_server_and_transformers_agree_token_by_token(
    running: RunningServer,
    config: StepConfig,
    trained: Path,
    questions: list[list[Message]],
    expected: list[Any],
) -> None:
    assert generator_of(running, config, trained).generate(questions, 1, GREEDY) == expected


def test_an_endpoint_that_renders_the_prompt_gives_the_same_completions(
    running: RunningServer, questions: list[list[Message]], expected: list[Any]
) -> None:
    settings = Endpoint(
        kind="endpoint", url=f"{running.url}/v1", model=served_name(KEY), api_key_env=None, timeout=TIMEOUT, concurrency=16,
        retries=1, extra_body={},
    )  # fmt: skip
    assert EndpointGenerator(settings).generate(questions, 1, GREEDY) == expected


def test_the_seed_determines_the_samples(
    running: RunningServer, config: StepConfig, trained: Path, questions: list[list[Message]]
) -> None:
    server = generator_of(running, config, trained)
    sampling = Sampling(temperature=1.0, max_tokens=48, seed=1)
    first = server.generate(questions[:8], 8, sampling)
    assert server.generate(questions[:8], 8, sampling) == first
    assert server.generate(questions[:8], 8, sampling.model_copy(update={"seed": 2})) != first
    assert any(len({completion.text for completion in group}) > 1 for group in first)


def test_after_a_crash_of_the_engine_the_completions_are_the_same(
    running: RunningServer,
    config: StepConfig,
    trained: Path,
    questions: list[list[Message]],
    expected: list[Any],
) -> None:
    server = generator_of(running, config, trained)
    old = running.state["pid"]
    (engine,) = (p for p in psutil.Process(old).children() if "EngineCor" in p.name())
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.extend(server.generate(questions * 8, 1, GREEDY)))
    thread.start()
    engine.kill()
    thread.join(TIMEOUT)
    assert answers == expected * 8
    assert running.state["starts"] == 2
    assert not psutil.pid_exists(old)


def test_no_process_is_left_ten_seconds_after_the_run_was_killed(
    running: RunningServer, record_property: Callable[[str, object], None]
) -> None:
    processes = running.processes()
    assert len(processes) >= 4  # the run, the supervisor, the API server, the engine
    running.run.kill()
    running.run.wait()
    seconds = seconds_until_gone(processes)
    record_property("seconds", seconds)
    assert seconds <= 10.0


def test_a_whole_evaluation_gives_the_outcomes_of_transformers(trained: Path, tmp_path: Path) -> None:
    scores = {}
    for rollout in ("hf", "vllm_server"):
        code = r1exp(tmp_path, rollout, trained, "evaluation.samples=0")
        assert code == 0, (tmp_path / rollout / "steps" / "01-evaluate" / "log.txt").read_text()[-2000:]
        scores[rollout] = json.loads(
            (tmp_path / rollout / "steps" / "01-evaluate" / "artifact" / "scores.json").read_text()
        )
    assert scores["vllm_server"]["outcomes"] == scores["hf"]["outcomes"]


def test_a_port_that_is_taken_fails_at_once(trained: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert r1exp(tmp_path, "vllm_server", trained, f"rollout.port={port}") == 3
    assert f"port {port} of 127.0.0.1 is taken" in reason(tmp_path)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        pytest.param(
            ["rollout.cpu_kvcache_gib=100000"], "rollout.cpu_kvcache_gib", id="out of memory at the start"
        ),
        pytest.param(["model.path=broken"], "the vLLM server ended before it was ready", id="wrong model"),
    ],
)
def test_a_server_that_cannot_start_fails_with_the_reason(
    overrides: list[str], sentence: str, trained: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in trained.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    shape = json.loads((trained / "config.json").read_text())
    (broken / "config.json").write_text(
        json.dumps(shape | {"architectures": ["UnknownArchitecture"], "model_type": "unknown"})
    )
    assert r1exp(tmp_path, "vllm_server", trained, *overrides) == 3
    assert sentence in reason(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_no_process_is_left_when_the_command_is_ended_while_the_server_starts(
    number: signal.Signals, trained: Path, tmp_path: Path
) -> None:
    run = subprocess.Popen(command("vllm_server", trained), cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_for(RunPaths(tmp_path / "vllm_server").step(1, "evaluate").server_state.exists)
    time.sleep(3.0)  # vLLM is being imported
    processes = psutil.Process(run.pid).children(recursive=True)
    assert len(processes) >= 2
    run.send_signal(number)
    run.wait()
    assert seconds_until_gone(processes) <= 10.0


def command(rollout: str, model: Path, *overrides: str) -> list[str]:
    common = [
        "stage=evaluate",
        f"rollout={rollout}",
        f"model.path={model}",
        f"paths.run={rollout}",
        "tracking=none",
    ]
    common += ["dataset.num_test=64", "evaluation.max_tokens=48"]
    if rollout == "vllm_server":
        common.append(f"rollout.start_timeout={TIMEOUT}")
    return [sys.executable, "-m", "r1exp", *common, *overrides]


def r1exp(folder: Path, rollout: str, model: Path, *overrides: str) -> int:
    """Run an evaluation in `folder`, and check that none of its processes is left."""
    run = subprocess.Popen(command(rollout, model, *overrides), cwd=folder)
    processes: dict[int, psutil.Process] = {}
    while run.poll() is None:
        for process in psutil.Process(run.pid).children(recursive=True):
            processes[process.pid] = process
        time.sleep(0.2)
    assert seconds_until_gone(list(processes.values())) <= 10.0
    return run.returncode


def reason(folder: Path) -> str:
    status = read_status(folder / "vllm_server" / "steps" / "01-evaluate")
    assert status is not None and status.state == "failed" and status.reason is not None
    return status.reason


def seconds_until_gone(processes: list[psutil.Process]) -> float:
    started = time.monotonic()
    _, alive = psutil.wait_procs(processes, timeout=30.0)
    for process in alive:
        process.kill()
    return time.monotonic() - started


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)
