"""Checks and times stage=generate against a real vLLM server on this machine's CPU.

    python benchmarks/generate.py [--part all|resume|speed] [--questions 500] [--concurrency 16] [--tokens 64] [--pairs 3]

resume  r1exp asks a server through a counting proxy. The server is killed (kill -9) and started again, then the whole client, which is
        started again too. Every question must have one answer, and no question whose answer was kept may be asked again.
speed   The same questions, as many at a time and with as many tokens, are asked by r1exp and by vLLM's own benchmark client
        (vllm bench serve) in turns. Prints requests per second of both, from the first request to the last answer, and the ratio
        r1exp / vLLM with its 95 % interval over pairs; then the seconds of the whole commands, imports included.

The model is that of conf/model/tiny.yaml with random weights; every answer has exactly --tokens tokens (ignore_eos). vLLM's client streams
its answers, r1exp does not. Without vLLM nothing is measured.
"""

import argparse
import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from turns import build_tiny_policy, ratio

_NAME = "teacher"
_START_TIMEOUT = 900.0  # seconds; the machine may have other load
# vLLM's command line needs a package record that the CPU build has not.
_BENCH = (
    "from vllm.benchmarks.serve import add_cli_args, main; from vllm.utils.argparse_utils import FlexibleArgumentParser;"
    "parser = FlexibleArgumentParser(); add_cli_args(parser); main(parser.parse_args())"
)


class Server:
    """A vLLM server of this machine that can be killed and started again at the same port."""

    def __init__(self, model: Path, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._model, self._log = model, folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self._model),
            "--served-model-name", _NAME, "--host", "127.0.0.1", "--port", str(self.port), "--dtype", "float32",
            "--generation-config", "vllm", "--enforce-eager", "--max-model-len", "512", "--disable-uvicorn-access-log",
        ]  # fmt: skip
        environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
                                    "VLLM_NO_USAGE_STATS": "1"}  # fmt: skip
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + _START_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the server did not start: {self._log.read_text()[-2000:]}")
            time.sleep(0.5)

    def kill(self) -> None:
        """End all of its processes with SIGKILL."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5.0)
        try:
            connection.request("GET", "/v1/models")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


class _QuietServer(ThreadingHTTPServer):
    """A server that says nothing about connections that a killed client leaves."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write no traceback of a lost connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class CountingProxy:
    """Passes requests on to a server; counts by seed which were asked, and which were answered.

    r1exp gives every answer of a step a seed of its own. Where the server is down, the connection is closed without an answer.
    """

    def __init__(self, port: int) -> None:
        self.asked: Counter[int] = Counter()
        self.answered: Counter[int] = Counter()
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                seed = json.loads(data)["seed"]
                with proxy._lock:
                    proxy.asked[seed] += 1
                server = http.client.HTTPConnection("127.0.0.1", port)
                try:
                    server.request("POST", self.path, data, {"Content-Type": "application/json"})
                    response = server.getresponse()
                    content = response.read()
                except (OSError, http.client.HTTPException):
                    self.close_connection = True
                    return
                finally:
                    server.close()
                with suppress(OSError):  # the client was killed
                    self.send_response(response.status)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                    with proxy._lock:
                        proxy.answered[seed] += response.status == 200

            def log_message(self, *args: object) -> None:
                """Log nothing."""

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def num_answered(self) -> int:
        """Return how many different answers were passed on."""
        with self._lock:
            return len(self.answered)

    def close(self) -> None:
        """Accept nothing more."""
        self._server.shutdown()
        self._server.server_close()


def client(url: str, given: Any, run: str) -> list[str]:
    """Return r1exp's command; each run has a store of its own, so that none reuses another's answers."""
    return [
        sys.executable, "-m", "r1exp", "stage=generate", f"stage.num_problems={given.questions}", "stage.only_finished=false",
        "stage.only_right=false", "rollout=endpoint", f"rollout.url={url}/v1", f"rollout.model={_NAME}", "rollout.retries=30",
        f"rollout.concurrency={given.concurrency}", f"max_completion_length={given.tokens}", "rollout.extra_body={ignore_eos: true}",
        "prompt.system=''", "tracking=none", "launcher.device=cpu", f"paths.run={run}", f"paths.store=store-{run}",
    ]  # fmt: skip


def resume(server: Server, folder: Path, given: Any) -> dict[str, int]:
    """Kill the server and then the client while questions are asked; return and check the counts."""
    from r1exp.paths import RunPaths
    from r1exp.rollout.endpoint import stream

    proxy = CountingProxy(server.port)
    step = RunPaths(folder / "resumed").step(1, "generate")
    with (folder / "client.log").open("ab") as log:

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(client(proxy.url, given, "resumed"), cwd=folder, stdout=log, stderr=log)

        run = start()
        _wait(lambda: proxy.num_answered() >= given.questions // 5, run, folder)
        server.kill()
        server.start()
        _wait(lambda: proxy.num_answered() >= given.questions // 2, run, folder)
        _kill_all(run)
        numbers = {stream(1, number): number for number in range(given.questions)}
        kept = _kept_numbers(step.kept_rows(0, 1))
        time.sleep(2.0)  # requests of the killed client end
        asked_before = Counter(proxy.asked)
        if start().wait() != 0:
            raise SystemExit((folder / "client.log").read_text()[-3000:])
    proxy.close()
    asked_after = {numbers[seed] for seed in proxy.asked - asked_before}
    rows = [json.loads(line) for line in step.results.answers.read_text().splitlines()]
    counts = {
        "answers": len(rows),
        "different questions": len({row["id"] for row in rows}),
        "kept when the client was killed": len(kept),
        "of these asked again": len(asked_after & kept),
        "answered, and not yet kept when it was killed": sum(
            number - 1 for number in proxy.answered.values()
        ),
    }
    assert counts["answers"] == counts["different questions"] == given.questions, counts
    assert counts["of these asked again"] == 0, counts
    assert counts["answered, and not yet kept when it was killed"] <= given.concurrency, counts
    assert all(row["num_tokens"] == given.tokens for row in rows)
    return counts


def speed(server: Server, folder: Path, given: Any) -> list[tuple[float, float, float, float]]:
    """Return for each pair requests per second of r1exp and of vLLM's client, and the seconds of both commands."""
    from r1exp.config.compose import session
    from r1exp.config.experiment import experiment_from

    with session():
        dataset = experiment_from(["stage=generate"]).steps[0].config.dataset
    problems = dataset.load("train")[: given.questions]
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": problem.prompt}) + "\n" for problem in problems))
    _by_vllm(server, folder, prompts, given, "warm")  # the server compiles and caches with its first requests
    pairs = []
    for number in range(given.pairs):
        order = [_by_r1exp, _by_vllm] if number % 2 == 0 else [_by_vllm, _by_r1exp]
        found = {each: each(server, folder, prompts, given, str(number)) for each in order}
        (ours, our_seconds), (theirs, their_seconds) = found[_by_r1exp], found[_by_vllm]
        print(
            f"pair {number + 1}: r1exp {ours:.1f}, vllm bench serve {theirs:.1f} requests per second",
            flush=True,
        )
        pairs.append((ours, theirs, our_seconds, their_seconds))
    return pairs


def _by_r1exp(server: Server, folder: Path, prompts: Path, given: Any, name: str) -> tuple[float, float]:
    del prompts
    started = time.perf_counter()
    done = subprocess.run(
        client(server.url, given, f"r1exp-{name}"), cwd=folder, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise SystemExit(done.stderr[-3000:])
    log = (folder / f"r1exp-{name}" / "steps" / "01-generate" / "log.txt").read_text()
    found = re.search(r"([\d,]+) new in ([\d.]+) s", log)
    assert found is not None and int(found[1].replace(",", "")) == given.questions, log
    return given.questions / float(found[2]), seconds


def _by_vllm(server: Server, folder: Path, prompts: Path, given: Any, name: str) -> tuple[float, float]:
    arguments = [
        "--backend", "openai-chat", "--base-url", server.url, "--endpoint", "/v1/chat/completions", "--model", _NAME,
        "--tokenizer", str(folder / "model"), "--dataset-name", "custom", "--dataset-path", str(prompts),
        "--skip-chat-template", "--custom-output-len", str(given.tokens), "--num-prompts", str(given.questions),
        "--max-concurrency", str(given.concurrency), "--ignore-eos", "--temperature", "0.6", "--top-p", "0.95",
        "--extra-body", '{"seed": 1}', "--disable-tqdm", "--save-result", "--result-dir", str(folder),
        "--result-filename", f"vllm-{name}.json",
    ]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _BENCH, *arguments], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise SystemExit(done.stderr[-3000:])
    result = json.loads((folder / f"vllm-{name}.json").read_text())
    assert (
        result["completed"] == given.questions
        and result["total_output_tokens"] == given.questions * given.tokens
    ), result
    return float(result["request_throughput"]), seconds


def _kept_numbers(path: Path) -> set[int]:
    """Return the numbers of the completions that are kept on disk."""
    lines = path.read_text().splitlines(keepends=True)[1:]
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    return {int(number) for row in rows for number in row["rows"]}


def _kill_all(run: subprocess.Popen[bytes]) -> None:
    processes = psutil.Process(run.pid).children(recursive=True)
    for process in [psutil.Process(run.pid), *processes]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    run.wait()
    psutil.wait_procs(processes, timeout=30.0)


def _wait(condition: Callable[[], bool], run: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + _START_TIMEOUT
    while not condition():
        if run.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"r1exp ended too early: {(folder / 'client.log').read_text()[-3000:]}")
        time.sleep(0.01)


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """Build the model, start a server, and end it."""
    build_tiny_policy(folder / "model")
    server = Server(folder / "model", folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def main() -> None:
    """Run both parts and print their figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=("all", "resume", "speed"), default="all")
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--concurrency", type=int, default=16, help="requests at a time")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of every answer")
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    if find_spec("vllm") is None:
        print("not measured: stage=generate; vLLM is not installed (make vllm)")
        return
    with tempfile.TemporaryDirectory() as name, running_server(Path(name)) as server:
        load = os.getloadavg()[0] / (os.cpu_count() or 1)
        print(f"load of this machine: {load:.1f} per core", flush=True)
        if given.part != "speed":
            for what, number in resume(server, Path(name), given).items():
                print(f"{what}: {number}", flush=True)
        if given.part != "resume":
            pairs = speed(server, Path(name), given)
            value, low, high = ratio([ours / theirs for ours, theirs, _, _ in pairs])
            print(f"r1exp / vllm bench serve: {value:.2f}, 95 % interval {low:.2f} to {high:.2f}, {given.pairs} pairs of "
                  f"{given.questions} questions, {given.concurrency} at a time, {given.tokens} tokens each")  # fmt: skip
            for who, column in (("r1exp", 2), ("vllm bench serve", 3)):
                print(f"{who}, the whole command: {statistics.median(pair[column] for pair in pairs):.0f} s")


if __name__ == "__main__":
    main()
