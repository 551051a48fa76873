"""Fixtures for tests of rewards: problems, completions, a user's module, a judge's endpoint."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from pydantic import TypeAdapter

from r1exp.prompt.settings import StyleName
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Reward
from r1exp.rewards.menu import RewardSettings

MakeProblem = Callable[..., Problem]
MakeCompletion = Callable[..., Completion]


@pytest.fixture
def problem() -> MakeProblem:
    def make(answer: str | None = "42", prompt: str = "What is 6 x 7?", **columns: object) -> Problem:
        return Problem(id=f"toy-{prompt}", prompt=prompt, answer=answer, columns=columns)

    return make


@pytest.fixture
def completion() -> MakeCompletion:
    def make(text: str = "", num_tokens: int = 10, logprobs: tuple[float, ...] | None = None) -> Completion:
        return Completion(text=text, num_tokens=num_tokens, logprobs=logprobs)

    return make


@pytest.fixture
def answered(completion: MakeCompletion) -> Callable[..., Completion]:
    """Makes a completion in the think_answer style."""

    def make(answer: str, logprobs: tuple[float, ...] | None = None) -> Completion:
        return completion(f"<think>so</think>\n<answer>{answer}</answer>", logprobs=logprobs)

    return make


FOREIGN = """
import asyncio, os, re, time

def last_number(completions, **kwargs):
    return [float(c[0]["content"].split()[-1]) for c in completions]

def misbehaves(completions, completion_ids, answer, **kwargs):
    text = completions[0][0]["content"]
    if text == "hang":
        while True: pass
    if text == "stuck":
        re.match("(a+)+$", "a" * 64 + "b")  # never returns, and no other thread runs meanwhile
    if text == "slow":
        time.sleep(0.3 * len(completions))
    if text == "nan":
        return [float("nan")] * len(completions)
    if text.startswith("killed"):  # "killed once FILE": only where FILE does not exist yet
        import signal
        file = text.removeprefix("killed once ")
        if file == text or not os.path.exists(file):
            if file != text:
                open(file, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    if text == "die":
        os._exit(7)
    if text == "raise":
        raise KeyError(text)
    if text == "none":
        return [None] * len(completions)
    if text == "short":
        return []
    if text == "grandchild":
        import subprocess
        subprocess.Popen(["sleep", "4711"])
        while True: pass
    if text == "pid":
        return [float(os.getpid())] * len(completions)
    if text == "ids":
        return [float(sum(ids)) for ids in completion_ids]
    return [float(value) for value in answer]

def at_step(completions, trainer_state, bonus=0.0, **kwargs):
    return [trainer_state.global_step + bonus] * len(completions)

async def later(completions, **kwargs):
    await asyncio.sleep(0.01)
    return [1.0] * len(completions)

def make_constant(value):
    def constant(completions, **kwargs):
        assert "value" not in kwargs
        return [value] * len(completions)
    return constant
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Writes a module with a user's reward functions and returns its name."""
    name = f"foreign_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FOREIGN.replace("4711", f"4711{os.getpid()}"))
    monkeypatch.syspath_prepend(tmp_path)
    return name


class Endpoint:
    """Serves the part of the OpenAI protocol that a judge needs; `reply` returns each answer."""

    def __init__(self) -> None:
        self.requests: list[dict] = []
        self.keys: list[str | None] = []
        self.reply: Callable[[str], str | int] = lambda question: '{"score": 10}'
        self.most_at_once = 0
        self._num_busy = 0
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, text = endpoint.answer(body, self.headers.get("Authorization"))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args: object) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, body: dict, key: str | None) -> tuple[int, str]:
        with self._lock:
            self.requests.append(body)
            self.keys.append(key)
            self._num_busy += 1
            self.most_at_once = max(self.most_at_once, self._num_busy)
        reply = self.reply(body["messages"][0]["content"])
        with self._lock:
            self._num_busy -= 1
        if isinstance(reply, int):
            return reply, "{}"
        return 200, json.dumps({"choices": [{"message": {"content": reply}}]})


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()


@pytest.fixture(scope="session")
def composed() -> Callable[..., dict[str, Reward]]:
    """Returns a function that reads a file of conf/rewards; `values` gives the keys that the file leaves open."""

    def read(path: Path, style: StyleName = "think_answer", **values: object) -> dict[str, Reward]:
        rewards = OmegaConf.load(path)
        for key, value in values.items():
            OmegaConf.update(rewards, key, value)
        top = {"prompt": {"style": style}, "max_completion_length": 64, "seed": 1, "rewards": rewards}
        plain = OmegaConf.to_container(OmegaConf.create(top), resolve=True)
        assert isinstance(plain, dict)
        adapter = TypeAdapter(dict[str, RewardSettings])
        return dict(adapter.validate_json(json.dumps(plain["rewards"]), strict=True))

    return read
