"""Runs programs on your own Piston server (github.com/engineer-man/piston), over HTTP.

POST {url}/execute receives the files, the input and the limits of one run, and compiles each time: the
server keeps nothing between runs. If a server is full or down, the request is sent again, to the next of
`urls`; after `retries` repetitions the sandbox counts as unavailable.
"""

import base64
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field, PositiveFloat

from r1exp.http_client import HttpClient, RequestFailed
from r1exp.sandbox.base import (
    FILE_NAMES,
    CompileFailedError,
    Execute,
    Execution,
    Invocation,
    Language,
    Limits,
    SandboxDownError,
    Submission,
)
from r1exp.sandbox.remote import BUSY_STATUSES, Remote, pauses

_ENDINGS = {"TO": "timeout", "OL": "crash", "EL": "crash"}  # run.status: time, stdout, stderr limit
_MIB = 1 << 20
_creating = threading.Lock()


class Piston(Remote):
    """One or several Piston servers with the packages `python` and `gcc`, and `node` for JavaScript."""

    kind: Literal["piston"] = "piston"
    urls: tuple[str, ...] = Field(
        default=("http://localhost:2000/api/v2",), min_length=1
    )  # addresses of the Piston servers
    python_version: str = "*"  # as the server names it; *: the newest
    cpp_version: str = "*"  # as the server names it; *: the newest
    javascript_version: str = "*"  # as the server names it; *: the newest
    queue_seconds: PositiveFloat = 60.0  # seconds that a request may wait in a full server, beyond the limits

    def check(self) -> str | None:
        """Check that the server runs and has the packages."""
        try:
            missing = {"python", "c++"} - self._languages()
        except SandboxDownError as down:
            return f"{down}; start Piston and name it in sandbox.urls"
        return f"Piston lacks {sorted(missing)}; install its packages python and gcc" if missing else None

    def lacks(self, language: Language) -> str | None:
        """Check that the server has the package for JavaScript, if it is needed."""
        if language != "javascript" or "javascript" in self._languages():
            return None
        return "Piston lacks javascript; install its package node"

    def _languages(self) -> set[str]:
        """Return the names of the languages that the server runs. Raises SandboxDownError."""
        with _down_on_failure(self):
            runtimes = _client(self).get("/runtimes", timeout=self.queue_seconds)
        return {name for runtime in runtimes for name in (runtime["language"], *runtime["aliases"])}

    @contextmanager
    def prepared(self, program: Submission, limits: Limits) -> Iterator[Execute]:
        """Prepare nothing: every run sends the program."""

        def execute(call: Invocation) -> Execution:
            request = _request(self, program, limits, call)
            timeout = limits.compile_seconds + limits.wall_seconds + self.queue_seconds
            with _down_on_failure(self):
                answer = _client(self).post("/execute", request, timeout=timeout)
            return _execution(answer, limits)

        yield execute


def _client(settings: Piston) -> HttpClient:
    """Return the client of this process, which limits the concurrency of all its requests."""
    with _creating:  # several threads must not create one each, with a limit of its own
        return _created_client(settings)


@functools.cache
def _created_client(settings: Piston) -> HttpClient:
    return HttpClient(
        settings.urls,
        timeout=settings.queue_seconds,
        connect_timeout=None,
        concurrency=settings.concurrency,
        pauses=lambda: pauses(settings),
        retried_statuses=BUSY_STATUSES,
        retry_timeouts=True,
        retry_unreadable=True,
        longest_retry_after=0.0,
    )


@contextmanager
def _down_on_failure(settings: Piston) -> Iterator[None]:
    """Turn a failed request into SandboxDownError."""
    try:
        yield
    except RequestFailed as failed:
        if failed.cause == "refused":
            raise SandboxDownError(f"Piston refused the request: {failed.found}") from failed
        raise SandboxDownError(
            f"piston did not answer {settings.retries + 1} times: {failed.url}: {failed.found}"
        ) from failed


def _request(settings: Piston, program: Submission, limits: Limits, call: Invocation) -> dict[str, Any]:
    languages: dict[Language, tuple[str, str]] = {
        "python": ("python", settings.python_version),
        "cpp": ("c++", settings.cpp_version),
        "javascript": ("javascript", settings.javascript_version),
    }
    language, version = languages[program.language]
    main = FILE_NAMES[program.language]
    files = {main: program.source, **program.files, **call.files}  # the first file is the one that runs
    return {
        "language": language,
        "version": version,
        "files": [
            _file(name, text, code=name == main or (name in program.files and name.endswith(".cpp")))
            for name, text in files.items()
        ],
        "stdin": call.stdin,
        "args": list(call.args),
        "compile_timeout": round(limits.compile_seconds * 1000),
        "compile_cpu_time": round(limits.compile_seconds * 1000),
        "run_timeout": round(limits.wall_seconds * 1000),
        "run_cpu_time": round(limits.cpu_seconds * 1000),
        "run_memory_limit": limits.memory_mib * _MIB,
    }


def _file(name: str, text: str, *, code: bool) -> dict[str, str]:
    """Return a file of a request.

    Only code is sent as text, because the package gcc compiles every text, whatever its name. Piston
    accepts no empty file.
    """
    if code:
        return {"name": name, "content": text or "\n", "encoding": "utf8"}
    return {"name": name, "content": base64.b64encode((text or "\n").encode()).decode(), "encoding": "base64"}


def _execution(answer: dict[str, Any], limits: Limits) -> Execution:
    """Return the result in an answer. Raises CompileFailedError, or SandboxDownError."""
    build, done = answer.get("compile"), answer.get("run")
    if build is not None and (build.get("code") != 0 or build.get("signal") is not None):
        raise CompileFailedError(
            build.get("stderr") or build.get("message") or f"killed: {build.get('signal')}"
        )
    if done is None or done.get("status") == "XX":
        raise SandboxDownError(f"Piston failed: {answer.get('message') or (done or {}).get('message')}")
    stderr, cpu_seconds = done["stderr"][-4096:], (done.get("cpu_time") or 0) / 1000
    memory_mib = (done.get("memory") or 0) / _MIB
    ended: Any = "exited"
    if done.get("status") in _ENDINGS:
        ended = _ENDINGS[done["status"]]
    elif memory_mib > limits.memory_mib or (done.get("code") != 0 and "MemoryError" in stderr):
        ended = "memory"
    elif done.get("signal") is not None:  # servers that report no status kill only for time and output
        ended = "timeout" if done["signal"] == "SIGKILL" else "crash"
    detail = f"{done.get('message') or ''} {stderr}".strip() if ended != "exited" else stderr
    wall_seconds = (done.get("wall_time") or 0) / 1000
    return Execution(ended, done.get("code") or 0, done["stdout"], detail, cpu_seconds, wall_seconds)
