"""Starts a vLLM server for one step, waits until it is ready, checks it, watches it, and ends it in every case.

r1exp/serving/supervisor.py ends the server if this process is killed.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import psutil

from r1exp.errors import StepFailed
from r1exp.files import read_json
from r1exp.http_client import HttpClient, OpenAiClient, RequestFailed
from r1exp.paths import StepPaths
from r1exp.serving.command import ServerLaunch, failure_cause, last_lines, served_name
from r1exp.serving.step_server import ServedStep
from r1exp.terminal import say

_POLL = 0.5  # seconds between two checks
_PROGRESS_EVERY = 10.0  # seconds between lines of progress where there is no terminal
_END_WITHIN = 10.0  # seconds the supervisor has to end its server
_HEALTH_TIMEOUT = 2.0  # seconds for the response to a health check, which is repeated
_EXIT_WITHIN = 10.0  # seconds in which a server that fails a request exits, if it does
_PROBE_TIMEOUT = 60.0  # seconds for the response to a probe, the first request that the model computes
_SEE_LOG = dict.fromkeys(("key", "missing", "slow", "down"), "see server.log in the step's folder")
_NUM_LOGPROBS = 2  # log-probabilities per position in the probe


class Server:
    """A running server and its supervisor, seen from the process of the run."""

    def __init__(self, launch: ServerLaunch, folder: Path, step: ServedStep) -> None:
        self._paths = StepPaths(folder)
        self._launch = launch
        self._name = served_name(step.key)
        self._is_here = not step.launcher.has_server_node
        self._start_timeout = step.settings.start_timeout
        self._starts = 1  # starts that have been reported
        self._started_at = time.monotonic()  # of the latest start
        self._is_ready = False
        self._client: HttpClient | None = None  # for health checks
        self._next_check = 0.0
        self._descendants: list[psutil.Process] = []  # of the supervisor
        log_path = self._paths.server_log
        self._paths.server_state.unlink(missing_ok=True)
        self._log_offset = log_path.stat().st_size if log_path.exists() else 0  # bytes of earlier runs
        command = step.launcher.server_command(sys.executable)
        with log_path.open("ab") as log:
            self._supervisor = subprocess.Popen(
                [*command, "-m", "r1exp.serving.supervisor", str(folder.resolve())],
                stdin=subprocess.PIPE,  # closed by the kernel when this process ends
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C signals the run alone
            )
        self._send(json.dumps(asdict(launch.spec())))

    @property
    def url(self) -> str:
        """The base URL, without /v1."""
        state = self._state()
        host = f"[{state['host']}]" if ":" in state["host"] else state["host"]
        return f"http://{host}:{state['port']}"

    def await_ready(self, dtype: str) -> None:
        """Wait until the server answers, then check it.

        Args:
            dtype: Compute dtype of the policy.

        Raises:
            StepFailed: the server exited, took too long, or is not the one that was started.
        """
        last_line = time.monotonic()
        is_terminal = sys.stderr.isatty()
        is_checked = False
        while not is_checked:
            self.watch()
            spent = time.monotonic() - self._started_at
            if is_terminal:
                say(f"\rvLLM server: starting, {spent:.0f} s ", end="")
            elif time.monotonic() - last_line >= _PROGRESS_EVERY:
                last_line = time.monotonic()
                say(f"vLLM server: starting, {spent:.0f} s")
            if self._is_ready:
                is_checked = self._check(dtype)
            else:
                time.sleep(_POLL)
        ready = f"vLLM server: ready on {self.url} after {time.monotonic() - self._started_at:.0f} s"
        say(f"\r{ready}" if is_terminal else ready)

    def _check(self, dtype: str) -> bool:
        """Check the server while it is watched; return False if it exits in its first requests and is restarted."""
        starts = self._starts
        failures: list[Exception] = []

        def check() -> None:
            try:
                check_server(self.url, self._name, dtype, self._log)
            except Exception as error:  # noqa: BLE001 - raised below, in the thread that waits
                failures.append(error)

        checking = threading.Thread(target=check, daemon=True, name="check-server")
        checking.start()
        while checking.is_alive() and self._starts == starts:
            checking.join(_POLL)
            self.watch()
        if failures and isinstance(failures[0], RequestFailed):
            end = time.monotonic() + _EXIT_WITHIN
            while self._starts == starts and time.monotonic() < end:
                time.sleep(_POLL)
                self.watch()
        if self._starts != starts:
            return False
        if failures:
            raise failures[0]
        return True

    def watch(self) -> None:
        """Check the server; cheap enough to be called several times a second.

        Raises:
            StepFailed: the server exited and is not restarted, or a start takes too long.
        """
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + _POLL
        self._record_descendants()
        state = self._state()
        if state.get("state") == "failed" or self._supervisor.poll() is not None:
            raise StepFailed(self._failure(state))
        if state.get("starts", 1) > self._starts:
            self._starts, self._started_at, self._is_ready = state["starts"], now, False
            say(f"vLLM server: it exited and is restarted ({self._starts - 1} of {self._launch.restarts})")
        if self._is_ready or not state:
            return
        if self._answers():
            self._is_ready = True
            self._send("ready")
        elif now - self._started_at > self._start_timeout:
            raise StepFailed(
                f"the vLLM server did not answer within {self._start_timeout:g} s; raise rollout.start_timeout, or see "
                f"{self._paths.server_log} for what takes so long"
            )

    def end(self) -> None:
        """End the server; return when all of its processes have ended."""
        assert self._supervisor.stdin is not None
        with suppress(BrokenPipeError):
            self._supervisor.stdin.close()
        try:
            self._supervisor.wait(_END_WITHIN)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()
        state = self._state()
        if self._is_here and state.get("state") in ("starting", "running"):  # the supervisor was killed
            for process in self._descendants:
                # psutil compares start times, so that a process that reuses the id is not killed.
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def _answers(self) -> bool:
        """Return whether the server answers a health check."""
        if self._client is None:
            self._client = HttpClient(self.url, timeout=_HEALTH_TIMEOUT, concurrency=1, pauses=lambda: ())
        return self._client.responds("/health", timeout=_HEALTH_TIMEOUT)

    def _record_descendants(self) -> None:
        """Record the descendants of the supervisor, which `end` kills if the supervisor was killed."""
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self._supervisor.pid).children(recursive=True)
            self._descendants = children or self._descendants

    def _send(self, line: str) -> None:
        assert self._supervisor.stdin is not None
        with suppress(BrokenPipeError):  # the supervisor has exited, which the next check reports
            self._supervisor.stdin.write(f"{line}\n".encode())
            self._supervisor.stdin.flush()

    def _state(self) -> dict[str, Any]:
        path = self._paths.server_state
        return read_json(path) if path.exists() else {}

    def _log(self) -> str:
        """Return what the server has written since this start of the step."""
        with self._paths.server_log.open("rb") as file:
            file.seek(self._log_offset)
            return file.read().decode(errors="replace")

    def _failure(self, state: dict[str, Any]) -> str:
        """Return why the server failed; prints the last lines of its log."""
        reason = state.get("reason") or f"the supervisor ended with exit status {self._supervisor.poll()}"
        if not state.get("starts") and state.get("reason"):
            return str(reason)  # nothing was started, so that there is no log
        log = self._log()
        say(f"vLLM server: last lines of its log\n{last_lines(log)}", end="")
        return f"{reason}: {failure_cause(log)}; its whole log is {self._paths.server_log}"


class Servable(Protocol):
    """A step that may need a server."""

    @property
    def model_path(self) -> str:
        """Where the step's model is loaded from."""

    def served(self) -> ServedStep | None:
        """Return what the server needs to know about the step; None: the step needs no server."""


@contextmanager
def serving(step: Servable, folder: Path) -> Iterator[Server | None]:
    """Start a vLLM server for a step, and end it when the block ends.

    Yields the server, or None if the step needs none.

    Args:
        step: The step as its ranks read it.
        folder: The step's folder, which exists; server.json and server.log are written to it.

    Raises:
        StepFailed: the server cannot be started, or serves something else.
    """
    served = step.served()
    if served is None:
        yield None
        return
    server = Server(served.launch(step.model_path), folder, served)
    try:
        server.await_ready(served.model.compute_dtype)
        yield server
    finally:
        server.end()


def check_server(url: str, name: str, dtype: str, log: Callable[[], str]) -> None:
    """Check that the server is ours, computes in `dtype`, and reports log-probabilities of the sampled distribution.

    Args:
        url: Base URL, without /v1.
        name: Of the served model.
        dtype: Compute dtype of the policy.
        log: Returns the output of the server.

    Raises:
        RequestFailed: it does not answer, or not with a completion.
        StepFailed: another server answers, or the server was started with other options.
    """
    clients = [
        kind(f"{url}/v1", timeout=_PROBE_TIMEOUT, concurrency=1, pauses=lambda: (), explain=_SEE_LOG)
        for kind in (HttpClient, OpenAiClient)
    ]
    try:
        served = [model["id"] for model in clients[0].get("/models")["data"]]
        gaps = [_gap(clients[1], name, temperature) for temperature in (1.0, 0.5)] if name in served else []
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise StepFailed(
            f"{url} does not answer like a vLLM server ({type(error).__name__}: {error})"
        ) from error
    if name not in served:
        raise StepFailed(
            f"{url} serves {served} instead of {name}: another server answers there; "
            "set rollout.port=null for a free port"
        )
    text = log()
    if "dtype=torch." in text and f"dtype=torch.{dtype}," not in text:
        raise StepFailed(
            f"{url} computes in another dtype than {dtype}, according to its log; restart the step"
        )
    if abs(gaps[1] - 2 * gaps[0]) > 0.05 * max(1.0, gaps[1]):
        raise StepFailed(
            f"{url} reports log-probabilities before the temperature is applied (a gap of {gaps[0]:.3f} became "
            f"{gaps[1]:.3f} at half the temperature); it needs --logprobs-mode processed_logprobs"
        )


def _gap(client: HttpClient, name: str, temperature: float) -> float:
    """Return the gap in log-probability between the two likeliest first tokens; it doubles at half the temperature."""
    body = {
        "model": name, "prompt": [1, 2, 3], "max_tokens": 1, "temperature": temperature, "top_p": 1.0, "seed": 0,
        "logprobs": _NUM_LOGPROBS, "return_tokens_as_token_ids": True,
    }  # fmt: skip
    answer = client.post("/completions", body)
    top = sorted(answer["choices"][0]["logprobs"]["top_logprobs"][0].values())
    return float(top[-1] - top[-2])
