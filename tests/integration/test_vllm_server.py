"""A real vLLM server on a CPU: its life, its answers, and whoever dies: no process is left after 10 s.

Needs the CPU build of vLLM (docs/rollouts.md). One server serves most tests here, because a start takes half a minute.
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
from r1exp.paths import StepPaths
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

PATIENCE = 1800.0  # seconds; the machine may be busy
HOLD = Path(__file__).parents[1] / "runner" / "run_served.py"  # keeps a server until it is killed
KEY = "4711"
NUM_PROBLEMS = 64

pytestmark = [pytest.mark.integration, pytest.mark.slow]
if find_spec("vllm") is None:
    pytest.skip("needs vLLM: type make vllm", allow_module_level=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model that answers some problems right."""
    folder = tmp_path_factory.mktemp("trained")
    words = [
        "stage=sft",
        "max_steps=60",
        "evaluation.before=false",
        "evaluation.after=false",
        "tracking=none",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main([*words, "paths.run=run"]) == 0
    return folder / "run" / "steps" / "01-sft" / "artifact"


@pytest.fixture(scope="module")
def config() -> StepConfig:
    words = [
        "stage=evaluate",
        "rollout=vllm_server",
        f"rollout.start_timeout={PATIENCE}",
        "rollout.restarts=1",
    ]
    with session():
        return experiment_from([*words, "launcher.device=cpu"]).steps[0].config


class Held:
    """A server that another process keeps."""

    def __init__(self, folder: Path, config: StepConfig, model: Path) -> None:
        self.folder = folder
        step = Step(
            name="evaluate", index=1, run_id="run", run_name="run", key=KEY, data="0", device="cpu", world_size=1,
            config=config, trainer_args={}, model_path=str(model),
        )  # fmt: skip
        step.write(folder)
        self.run = subprocess.Popen([sys.executable, HOLD, folder])

    @property
    def url(self) -> str:
        return (self.folder / "ready").read_text()

    @property
    def state(self) -> dict[str, Any]:
        return read_json(StepPaths(self.folder).server_state)

    def family(self) -> list[psutil.Process]:
        """Return the run and every process below it."""
        return [psutil.Process(self.run.pid), *psutil.Process(self.run.pid).children(recursive=True)]


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory, config: StepConfig, trained: Path) -> Iterator[Held]:
    held = Held(tmp_path_factory.mktemp("held"), config, trained)
    wait_for(lambda: (held.folder / "ready").exists() or held.run.poll() is not None)
    yield held
    if held.run.poll() is None:
        held.run.terminate()
        held.run.wait(30)


@pytest.fixture(scope="module")
def questions(config: StepConfig) -> list[list[Message]]:
    problems = config.dataset.load("test")[:NUM_PROBLEMS]
    return [messages(problem.prompt, config.prompt) for problem in problems]


def ask_server(held: Held, config: StepConfig, trained: Path) -> ServerGenerator:
    assert isinstance(config.rollout, VllmServer)
    tokenizer = load_tokenizer(str(trained), config.model)
    return ServerGenerator(
        held.url, served_name(KEY), tokenizer, model_path=str(trained), revision=None, settings=config.rollout
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
    held: Held, config: StepConfig, trained: Path, questions: list[list[Message]], expected: list[Any]
) -> None:
    assert ask_server(held, config, trained).generate(questions, 1, GREEDY) == expected


def test_an_endpoint_that_renders_the_prompt_itself_gives_the_same_answers(
    held: Held, questions: list[list[Message]], expected: list[Any]
) -> None:
    settings = Endpoint(
        kind="endpoint", url=f"{held.url}/v1", model=served_name(KEY), api_key_env=None, timeout=PATIENCE, concurrency=16,
        retries=1, extra_body={},
    )  # fmt: skip
    assert EndpointGenerator(settings).generate(questions, 1, GREEDY) == expected


def test_a_seed_decides_the_samples(
    held: Held, config: StepConfig, trained: Path, questions: list[list[Message]]
) -> None:
    server = ask_server(held, config, trained)
    sampling = Sampling(temperature=1.0, max_tokens=48, seed=1)
    first = server.generate(questions[:8], 8, sampling)
    assert server.generate(questions[:8], 8, sampling) == first
    assert server.generate(questions[:8], 8, sampling.model_copy(update={"seed": 2})) != first
    assert any(len({completion.text for completion in group}) > 1 for group in first)


def test_a_crash_in_the_middle_is_survived_and_the_answers_are_the_same(
    held: Held,
    config: StepConfig,
    trained: Path,
    questions: list[list[Message]],
    expected: list[Any],
) -> None:
    server = ask_server(held, config, trained)
    old = held.state["pid"]
    (engine,) = (p for p in psutil.Process(old).children() if "EngineCor" in p.name())
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.extend(server.generate(questions * 8, 1, GREEDY)))
    asking.start()
    engine.kill()
    asking.join(PATIENCE)
    assert answers == expected * 8
    assert held.state["starts"] == 2
    assert not psutil.pid_exists(old)


def test_nothing_is_left_ten_seconds_after_the_run_was_killed(
    held: Held, record_property: Callable[[str, object], None]
) -> None:
    family = held.family()
    assert len(family) >= 4  # the run, the supervisor, the API server, the engine
    held.run.kill()
    held.run.wait()
    seconds = seconds_until_gone(family)
    record_property("seconds", seconds)
    assert seconds <= 10.0


def test_a_whole_evaluation_gives_the_accuracy_of_transformers(trained: Path, tmp_path: Path) -> None:
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
    ("words", "sentence"),
    [
        pytest.param(
            ["rollout.cpu_kvcache_gib=100000"], "rollout.cpu_kvcache_gib", id="out of memory at the start"
        ),
        pytest.param(["model.path=broken"], "the vLLM server ended before it was ready", id="wrong model"),
    ],
)
def test_a_server_that_cannot_start_fails_in_plain_words(
    words: list[str], sentence: str, trained: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in trained.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    shape = json.loads((trained / "config.json").read_text())
    (broken / "config.json").write_text(
        json.dumps(shape | {"architectures": ["NobodyKnowsIt"], "model_type": "nobody"})
    )
    assert r1exp(tmp_path, "vllm_server", trained, *words) == 3
    assert sentence in reason(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_nothing_is_left_when_the_command_itself_is_ended_while_the_server_starts(
    number: signal.Signals, trained: Path, tmp_path: Path
) -> None:
    run = subprocess.Popen(command("vllm_server", trained), cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_for(StepPaths(tmp_path / "vllm_server" / "steps" / "01-evaluate").server_state.exists)
    time.sleep(3.0)  # vLLM is being imported
    family = psutil.Process(run.pid).children(recursive=True)
    assert len(family) >= 2
    run.send_signal(number)
    run.wait()
    assert seconds_until_gone(family) <= 10.0


def command(rollout: str, model: Path, *words: str) -> list[str]:
    common = [
        "stage=evaluate",
        f"rollout={rollout}",
        f"model.path={model}",
        f"paths.run={rollout}",
        "tracking=none",
    ]
    common += ["dataset.num_test=64", "evaluation.max_tokens=48"]
    if rollout == "vllm_server":
        common.append(f"rollout.start_timeout={PATIENCE}")
    return [sys.executable, "-m", "r1exp", *common, *words]


def r1exp(folder: Path, rollout: str, model: Path, *words: str) -> int:
    """Type an evaluation in `folder`; nothing it started may be left."""
    run = subprocess.Popen(command(rollout, model, *words), cwd=folder)
    family: dict[int, psutil.Process] = {}
    while run.poll() is None:
        for process in psutil.Process(run.pid).children(recursive=True):
            family[process.pid] = process
        time.sleep(0.2)
    assert seconds_until_gone(list(family.values())) <= 10.0
    return run.returncode


def reason(folder: Path) -> str:
    status = read_status(folder / "vllm_server" / "steps" / "01-evaluate")
    assert status is not None and status.state == "failed" and status.reason is not None
    return status.reason


def seconds_until_gone(family: list[psutil.Process]) -> float:
    begun = time.monotonic()
    _, alive = psutil.wait_procs(family, timeout=30.0)
    for process in alive:
        process.kill()
    return time.monotonic() - begun


def wait_for(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.2)
