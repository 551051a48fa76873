"""Runs that are killed while they generate and while they score: a real endpoint counts what is asked twice."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from r1exp.files import hash_of_folder
from r1exp.paths import RunPaths

pytestmark = pytest.mark.slow
CONCURRENCY = 4


class CountingEndpoint:
    """OpenAI's chat API in a thread: a teacher whose answers depend on the seed, and a judge; `asked` counts questions."""

    def __init__(self, seconds: float = 0.04) -> None:
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = endpoint.name_of(body)
                if "I say" in name or name.startswith("teacher"):  # the others are those of the reward check
                    with endpoint._lock:
                        endpoint.asked[name] += 1
                time.sleep(seconds)
                content = json.dumps(endpoint.answer(body)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def name_of(self, body: dict[str, Any]) -> str:
        """Return what tells one question from another."""
        kind = "judge" if body["model"] == "judge" else f"teacher {body['temperature']} {body.get('seed')}"
        return f"{kind} {body['messages'][-1]['content']}"

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer, the same each time."""
        text = f"I say <answer>{body.get('seed', 0) % 7}</answer>"
        if body["model"] == "judge":
            text = json.dumps({"score": 1 + len(body["messages"][-1]["content"]) % 10})
        choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"prompt_tokens": 20, "completion_tokens": 5}}

    def num_asked(self, kind: str) -> int:
        """Return how many questions the teacher or the judge was asked."""
        with self._lock:
            return sum(number for name, number in self.asked.items() if name.startswith(kind))


@pytest.fixture
def endpoint() -> Iterator[CountingEndpoint]:
    made = CountingEndpoint()
    yield made
    made.server.shutdown()
    made.server.server_close()


def start(
    folder: Path, endpoint: CountingEndpoint, run: str, store: str, *overrides: str
) -> subprocess.Popen[bytes]:
    command = list(overrides) or [
        "stage=sample", "stage.samples=4", "stage.num_problems=40", "rollout=endpoint", f"rollout.url={endpoint.url}",
        "rollout.model=teacher", f"rollout.concurrency={CONCURRENCY}", "rewards=judge", "rewards.helpful.model=judge",
        f"rewards.helpful.endpoint={endpoint.url}", f"rewards.helpful.concurrency={CONCURRENCY}", "~rewards.harmless",
        "~rewards.readable",
    ]  # fmt: skip
    command += ["tracking=none", f"paths.run={run}", f"paths.store={store}", "launcher.device=cpu"]
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "r1exp", *command], cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )


def kill_when(
    run: subprocess.Popen[bytes], endpoint: CountingEndpoint, kind: str, number: int, who: str
) -> None:
    """Kill the run or its rank once so many questions have been asked; wait until none of its processes is left."""
    end = time.monotonic() + 120.0
    number += endpoint.num_asked(kind)
    while endpoint.num_asked(kind) < number:
        assert run.poll() is None and time.monotonic() < end
        time.sleep(0.005)
    processes = psutil.Process(run.pid).children(recursive=True)
    if who == "rank":
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # one that has just ended, perhaps still a zombie
                if "r1exp.worker" in " ".join(process.cmdline()):
                    process.send_signal(signal.SIGKILL)
    else:
        run.send_signal(signal.SIGKILL)
    run.wait()
    psutil.wait_procs(processes, timeout=20.0)


def artifact(folder: Path, run: str, step: str = "sample") -> str:
    return hash_of_folder(RunPaths(folder / run).step(1, step).artifact)


def test_a_sampling_that_is_killed_three_times_asks_no_finished_question_again(
    endpoint: CountingEndpoint, tmp_path: Path
) -> None:
    assert start(tmp_path, endpoint, "whole", "store-1").wait() == 0, (tmp_path / "output.txt").read_text()
    once = dict(endpoint.asked)
    assert len(once) == endpoint.num_asked("") > 200
    endpoint.asked.clear()
    kills = [("teacher", 30, "rank"), ("teacher", 30, "run"), ("judge", 30, "rank")]
    for number, (kind, asked, who) in enumerate(kills):
        # The last one goes on in another folder: the step is the same, and its rows are taken over.
        kill_when(start(tmp_path, endpoint, "killed", "store-2"), endpoint, kind, asked, who)
        assert number < len(kills)
    assert start(tmp_path, endpoint, "other", "store-2").wait() == 0, (tmp_path / "output.txt").read_text()
    assert artifact(tmp_path, "other") == artifact(tmp_path, "whole")
    assert endpoint.asked.keys() == once.keys()
    again = sum(number - 1 for number in endpoint.asked.values())
    assert again <= CONCURRENCY * len(kills)
    assert not RunPaths(tmp_path / "other").step(1, "sample").kept_rows(0, 1).exists()
    assert not os.listdir(RunPaths(tmp_path / "other").step(1, "sample").checkpoints)  # noqa: PTH208


def test_labelling_ends_with_its_budget_and_goes_on_after_kills_without_asking_again(
    endpoint: CountingEndpoint, tmp_path: Path
) -> None:
    ask = [
        "stage=generate", "stage.samples=3", "stage.num_problems=40", "stage.only_right=false", "rollout=endpoint",
        f"rollout.url={endpoint.url}", "rollout.model=teacher", f"rollout.concurrency={CONCURRENCY}",
    ]  # fmt: skip
    assert start(tmp_path, endpoint, "whole", "store-1", *ask).wait() == 0, (
        tmp_path / "output.txt"
    ).read_text()
    once = dict(endpoint.asked)
    assert set(once.values()) == {1} and len(once) == 120
    endpoint.asked.clear()
    assert start(tmp_path, endpoint, "killed", "store-2", *ask, "stage.budget_tokens=500").wait() == 3
    output = (tmp_path / "output.txt").read_text()
    assert "stage.budget_tokens=500; the answers are kept" in output
    assert 20 <= endpoint.num_asked("") < 20 + CONCURRENCY  # 25 tokens each
    for who in ("rank", "run"):
        kill_when(start(tmp_path, endpoint, "killed", "store-2", *ask), endpoint, "teacher", 20, who)
    assert start(tmp_path, endpoint, "killed", "store-2", *ask).wait() == 0, output
    assert artifact(tmp_path, "killed", "generate") == artifact(tmp_path, "whole", "generate")
    assert endpoint.asked.keys() == once.keys()
    assert endpoint.num_asked("") <= 120 + 2 * CONCURRENCY
