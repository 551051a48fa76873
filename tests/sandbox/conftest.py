"""Fixtures for tests of sandboxes: bubblewrap as root and as another user, services on loopback."""

import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Pipe
from pathlib import Path

import pytest

from r1exp.sandbox.base import Case, CaseResult, Limits, Submission, Unavailable
from r1exp.sandbox.local import Local
from r1exp.sandbox.verdicts import run

OTHER_USER = 23456  # a user id without an account

Answer = list[CaseResult] | Unavailable
Judge = Callable[[Submission, Sequence[Case], Limits], Answer]


def _as_other_user(submission: Submission, cases: Sequence[Case], limits: Limits) -> Answer:
    """Run in a child process that has switched from root to another user."""
    reader, writer = Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(OTHER_USER, OTHER_USER, OTHER_USER)
            os.setresuid(OTHER_USER, OTHER_USER, OTHER_USER)
            python = None if os.access(sys.base_prefix, os.R_OK) else "/usr/bin/python3"
            writer.send(run(Local(python=python), submission, cases, limits))
        except Exception:  # noqa: BLE001 the parent reports it
            writer.send(traceback.format_exc())
        finally:
            os._exit(0)
    writer.close()
    try:
        return reader.recv()
    finally:
        os.waitpid(child, 0)


def _as_root(submission: Submission, cases: Sequence[Case], limits: Limits) -> Answer:
    return run(Local(), submission, cases, limits)


@pytest.fixture(params=["root", "user"])
def judge(request: pytest.FixtureRequest) -> Judge:
    """Runs in the local sandbox, once as root and once as another user."""
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("needs root; the parameter `user` tests the other way")
    return _as_other_user if request.param == "user" and os.geteuid() == 0 else _as_root


@pytest.fixture
def limits() -> Limits:
    """Small limits, which are reached soon; only wall time is long, because the machine may be busy."""
    return Limits(
        cpu_seconds=1.0, wall_seconds=20.0, memory_mib=128, num_processes=16, output_kib=1024, scratch_mib=16
    )


@pytest.fixture
def impatient(limits: Limits) -> Limits:
    """The same limits with little wall time, for programs that sleep."""
    return limits.model_copy(update={"wall_seconds": 1.0})


Reply = tuple[int, bytes]  # HTTP status, body


@dataclass
class Service:
    """A server on loopback that answers with `respond(method, path, body)` and records the requests."""

    url: str = ""
    respond: Callable[[str, str, bytes], Reply] = lambda method, path, body: (404, b"")
    requests: list[tuple[str, str]] = field(default_factory=list)  # method, path
    content_type: str = "application/json"
    num_busy: int = 0
    most_busy: int = 0  # requests at once


@pytest.fixture
def service() -> Iterator[Service]:
    it, lock = Service(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _serve(self) -> None:
            body = self._body()
            with lock:
                it.requests.append((self.command, self.path))
                it.num_busy += 1
                it.most_busy = max(it.most_busy, it.num_busy)
            status, answer = it.respond(self.command, self.path, body)
            with lock:
                it.num_busy -= 1
            if status == 0:  # close the connection without an answer
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Type", it.content_type)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 names of http.server

        def log_message(self, *args: object) -> None:
            """Keep the test's output quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    it.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield it
    server.shutdown()
    server.server_close()


@dataclass
class ToyMachine:
    """The machine of a fake service: a folder, and a shell that uses it as /tmp/r1exp."""

    folder: Path
    seen: list[str] = field(default_factory=list)  # everything that was sent to the machine

    def write(self, path: str, text: str) -> None:
        self.seen.append(text)
        target = self.folder / path.removeprefix("/tmp/r1exp/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        self.seen.append(command)
        here = command.replace("/tmp/r1exp", str(self.folder))
        return subprocess.run(
            ["bash", "-c", here], capture_output=True, text=True, errors="replace", check=False
        )


@pytest.fixture
def machine(tmp_path: Path) -> ToyMachine:
    return ToyMachine(tmp_path)
