"""The run's side of a vLLM server: started for one step, awaited, checked, watched, and ended on every way out.

How it ends even when this process is killed is said in r1exp/serving/supervisor.py.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import psutil

from r1exp.errors import StepFailed
from r1exp.files import read_json
from r1exp.serving.command import ServerLaunch, last_lines, served_name, why_it_died
from r1exp.serving.step_server import ServedStep
from r1exp.serving.supervisor import LOG, STATE

_POLL = 0.5  # seconds between looks
_LINE_EVERY = 10.0  # seconds between lines of progress where there is no terminal
_END_WITHIN = 10.0  # seconds the supervisor has to end its server
_HASTE = 10.0  # seconds for an answer to a look or a probe
_TOP = 2  # log-probabilities a position in the probe


class Server:
    """A server and its supervisor, as the run sees them."""

    def __init__(self, launch: ServerLaunch, folder: Path, step: ServedStep) -> None:
        self._folder = folder
        self._launch = launch
        self._name = served_name(step.key)
        self._is_here = not step.launcher.has_server_node
        self._start_timeout = step.settings.start_timeout
        self._starts = 1  # as far as has been told
        self._since = time.monotonic()  # of the start that is under way
        self._is_ready = False
        self._next_look = 0.0
        self._family: list[psutil.Process] = []  # below the supervisor
        (folder / STATE).unlink(missing_ok=True)
        self._log_begins = (folder / LOG).stat().st_size if (folder / LOG).exists() else 0
        command = step.launcher.server_command(sys.executable)
        with (folder / LOG).open("ab") as log:
            self._supervisor = subprocess.Popen(
                [*command, "-m", "r1exp.serving.supervisor", str(folder.resolve())],
                stdin=subprocess.PIPE,  # its other end is closed when this process is gone
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the run alone
            )
        self._tell(json.dumps(asdict(launch.spec())))

    @property
    def url(self) -> str:
        """The base URL, without /v1."""
        state = self._state()
        host = f"[{state['host']}]" if ":" in state["host"] else state["host"]
        return f"http://{host}:{state['port']}"

    def await_ready(self, dtype: str) -> None:
        """Return when the server answers as it should.

        Raises:
            StepFailed: it died, it took too long, or it is another server than the one that was started.
        """
        last_line = time.monotonic()
        is_terminal = sys.stderr.isatty()
        while not self._is_ready:
            self.watch()
            spent = time.monotonic() - self._since
            if is_terminal:
                _say(f"\rvLLM server: starting, {spent:.0f} s ")
            elif time.monotonic() - last_line >= _LINE_EVERY:
                last_line = time.monotonic()
                _say(f"vLLM server: starting, {spent:.0f} s\n")
            time.sleep(_POLL)
        check_server(self.url, self._name, dtype, self._log())
        ready = f"vLLM server: ready on {self.url} after {time.monotonic() - self._since:.0f} s\n"
        _say(f"\r{ready}" if is_terminal else ready)

    def watch(self) -> None:
        """Look at the server; cheap enough to be called several times a second.

        Raises:
            StepFailed: it died and will not be started again, or a start takes too long.
        """
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _POLL
        self._remember_family()
        state = self._state()
        if state.get("state") == "failed" or self._supervisor.poll() is not None:
            raise StepFailed(self._why(state))
        if state.get("starts", 1) > self._starts:
            self._starts, self._since, self._is_ready = state["starts"], now, False
            _say(
                f"vLLM server: it died and is started again ({self._starts - 1} of {self._launch.restarts})\n"
            )
        if self._is_ready or not state:
            return
        if _answers(self.url):
            self._is_ready = True
            self._tell("ready")
        elif now - self._since > self._start_timeout:
            raise StepFailed(
                f"the vLLM server did not answer within {self._start_timeout:g} s; raise rollout.start_timeout, or see "
                f"{self._folder / LOG} for what takes so long"
            )

    def end(self) -> None:
        """End the server; returns when nothing of it is left."""
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
            for process in self._family:
                with suppress(psutil.NoSuchProcess):  # nor another one that was given its number
                    process.kill()

    def _remember_family(self) -> None:
        """Note what runs below the supervisor: who is to be ended should it be killed."""
        with suppress(psutil.NoSuchProcess):
            self._family = psutil.Process(self._supervisor.pid).children(recursive=True) or self._family

    def _tell(self, line: str) -> None:
        assert self._supervisor.stdin is not None
        with suppress(BrokenPipeError):  # it is dead: the next look says so
            self._supervisor.stdin.write(f"{line}\n".encode())
            self._supervisor.stdin.flush()

    def _state(self) -> dict[str, Any]:
        path = self._folder / STATE
        return read_json(path) if path.exists() else {}

    def _log(self) -> str:
        """Return what the server said since this start of the step."""
        with (self._folder / LOG).open("rb") as file:
            file.seek(self._log_begins)
            return file.read().decode(errors="replace")

    def _why(self, state: dict[str, Any]) -> str:
        reason = state.get("reason") or f"the supervisor ended with exit status {self._supervisor.poll()}"
        if not state.get("starts") and state.get("reason"):
            return str(reason)  # nothing was started, and no log says more
        log = self._log()
        _say(f"vLLM server: its last words\n{last_lines(log)}")
        return f"{reason}: {why_it_died(log)}; all that it printed is in {self._folder / LOG}"


class Servable(Protocol):
    """A step that may need a server."""

    @property
    def model_path(self) -> str:
        """Where its model is loaded from."""

    def served(self) -> ServedStep | None:
        """Return the step as its server sees it; None: it needs no server."""


@contextmanager
def serving(step: Servable, folder: Path) -> Iterator[Server | None]:
    """Start a vLLM server for a step, and end it with the block.

    Args:
        step: The step as its ranks will read it.
        folder: The step's folder, which exists; server.json and server.log are written to it.

    Raises:
        StepFailed: the server cannot be started, or does not serve what it should.
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


def _answers(url: str) -> bool:
    import httpx  # a tenth of a second; only where there is a server

    try:
        return httpx.get(f"{url}/health", timeout=_HASTE).status_code == 200
    except httpx.HTTPError:
        return False


def check_server(url: str, name: str, dtype: str, log: str) -> None:
    """Make sure that the server is ours, computes in `dtype`, and gives log-probabilities of what it samples from.

    Raises:
        StepFailed: it is another one, or of another mind.
    """
    import httpx

    try:
        served = [model["id"] for model in httpx.get(f"{url}/v1/models", timeout=_HASTE).json()["data"]]
        gaps = [_gap(url, name, temperature) for temperature in (1.0, 0.5)] if name in served else []
    except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
        raise StepFailed(
            f"{url} does not answer as a vLLM server does ({type(error).__name__}: {error})"
        ) from error
    if name not in served:
        raise StepFailed(
            f"{url} serves {served} instead of {name}: another server answers there; "
            "set rollout.port=null for a free port"
        )
    if "dtype=torch." in log and f"dtype=torch.{dtype}," not in log:
        raise StepFailed(f"{url} computes in another dtype than {dtype}, as its log says; restart the step")
    if abs(gaps[1] - 2 * gaps[0]) > 0.05 * max(1.0, gaps[1]):
        raise StepFailed(
            f"{url} reports log-probabilities before the temperature is applied (a gap of {gaps[0]:.3f} became "
            f"{gaps[1]:.3f} at half the temperature); it needs --logprobs-mode processed_logprobs"
        )


def _gap(url: str, name: str, temperature: float) -> float:
    """Return by how much the likeliest first token leads the second; doubles when the temperature is halved."""
    import httpx

    body = {
        "model": name, "prompt": [1, 2, 3], "max_tokens": 1, "temperature": temperature, "top_p": 1.0, "seed": 0,
        "logprobs": _TOP, "return_tokens_as_token_ids": True,
    }  # fmt: skip
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=6 * _HASTE).json()
    top = sorted(answer["choices"][0]["logprobs"]["top_logprobs"][0].values())
    return top[-1] - top[-2]


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
