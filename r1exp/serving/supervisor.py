"""The small process between a run and the vLLM server it started: whoever dies, the server ends within seconds.

    r1exp --pipe--> supervisor ----> vLLM's API server ----> engine, workers
         [through srun, where the server has a node of its own]

How nothing is ever left behind, all of it here:

* The run holds the writing end of the supervisor's stdin, and nobody else does. However the run ends, `kill -9`
  included, the kernel closes the pipe; the supervisor reads the end of the file and ends the server. srun hands
  the end of its stdin on, so another node makes no difference.
* The supervisor adopts what the server leaves behind (a subreaper), so that an engine whose API server was killed is
  found and ended too: SIGTERM to the server, and SIGKILL to every descendant that is left `_GRACE` later.
* The kernel sends the server SIGTERM when the supervisor itself dies (PR_SET_PDEATHSIG), and the run, which watches
  the supervisor, kills whatever it last saw below it (r1exp/serving/session.py).

The port is bound, never listened on, from before the first start to the end: two servers cannot be given
the same, and a server that died finds its own again. stdin carries one line of JSON (`Spec`), then `ready` whenever
the server has begun to answer: from the first one on it is started again when it dies, at most `restarts` times.
What happens is written to `server.json` in the step's folder; the server's output goes to `server.log`.
"""

import ctypes
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from r1exp.files import write_json
from r1exp.serving.command import Spec
from r1exp.serving.settings import is_private

STATE, LOG = "server.json", "server.log"  # in the step's folder
_GRACE = 4.0  # seconds between SIGTERM and SIGKILL
_POLL = 0.2  # seconds between looks at the server
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_SOMEWHERE = ("10.255.255.255", 1)  # nothing is sent there; it names the interface that would be used


@dataclass
class State:
    """What the run and its workers may know about the server."""

    state: str = "starting"  # starting, running, failed, ended
    reason: str | None = None  # of `failed`
    host: str = ""
    port: int = 0
    pid: int = 0  # of the server, which leads a process group
    node: str = ""
    starts: int = 0

    def write(self, folder: Path) -> None:
        """Replace server.json."""
        write_json(folder / STATE, asdict(self))


class _LeaveError(Exception):
    """The run is gone, or somebody said to end."""


class _GiveUpError(Exception):
    """It cannot be started, or not again; the text says why."""


class Supervisor:
    """One server, from its first start to the end of everything it started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state = State(node=socket.gethostname())
        self._server: subprocess.Popen[bytes] | None = None
        self._said = b""  # what came in over stdin and makes no whole line yet
        self._is_told_to_end = False

    def run(self) -> int:
        """Start the server, watch it, end it; return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end_soon)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        code = 0
        try:
            spec = Spec(**json.loads(self._line()))
            with _reserved(spec, self._state):
                self._watch(spec)
        except _LeaveError:
            self._state.state = "ended"
        except _GiveUpError as error:
            self._state.state, self._state.reason = "failed", str(error)
            code = 3
        finally:
            self._end_server()
        self._state.write(self._folder)
        return code

    def _watch(self, spec: Spec) -> None:
        """Start the server, and again while that is allowed. Ends with one of the two exceptions."""
        self._start(spec)
        has_been_ready = False
        while True:
            if self._line(_POLL) == b"ready":
                has_been_ready = True
                self._state.state = "running"
                self._state.write(self._folder)
            assert self._server is not None
            ended = self._server.poll()
            if ended is None:
                continue
            self._end_server()  # an engine may have outlived it
            how = f"killed by {signal.Signals(-ended).name}" if ended < 0 else f"exit status {ended}"
            if not has_been_ready:
                raise _GiveUpError(f"the vLLM server ended before it was ready ({how})")
            if self._state.starts > spec.restarts:
                raise _GiveUpError(f"the vLLM server ended ({how}) after {self._state.starts} start(s)")
            self._start(spec)

    def _start(self, spec: Spec) -> None:
        address = ["--host", self._state.host, "--port", str(self._state.port)]
        with (self._folder / LOG).open("ab") as log:
            self._server = subprocess.Popen(
                [sys.executable, *spec.arguments, *address],
                env={**os.environ, **spec.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # safe: this process has one thread
            )
        self._state.state = "starting"
        self._state.starts += 1
        self._state.pid = self._server.pid
        self._state.write(self._folder)

    def _line(self, timeout: float | None = None) -> bytes:
        """Return the next line from the run; b"" when none came in `timeout` seconds (None: wait for it).

        Raises _LeaveError when there will be none, or a signal said to end.
        """
        while b"\n" not in self._said:
            if self._is_told_to_end:
                raise _LeaveError
            if not select.select([0], [], [], _POLL)[0]:
                if timeout is not None:
                    return b""
                continue
            data = os.read(0, 1 << 16)
            if not data:
                raise _LeaveError
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        return line

    def _end_soon(self, number: int, frame: object) -> None:
        self._is_told_to_end = True

    def _end_server(self) -> None:
        """End the server and everything below this process; returns when nothing is left."""
        if self._server is None:
            return
        with suppress(ProcessLookupError):
            self._server.terminate()
        end = time.monotonic() + _GRACE
        while (left := self._alive()) and time.monotonic() < end:
            time.sleep(0.05)
            if self._server.poll() is not None:
                break  # the rest has lost whom it worked for
        while left := self._alive():
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.05)
        self._server.wait()

    def _alive(self) -> list[psutil.Process]:
        """Return every descendant that runs; the dead among the adopted are buried."""
        alive = []
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
                elif self._server is None or process.pid != self._server.pid:
                    with suppress(ChildProcessError):
                        os.waitpid(process.pid, os.WNOHANG)
        if self._server is not None:
            self._server.poll()
        return alive


def _die_with_parent() -> None:
    """In the server, before it becomes one: ask for SIGTERM when the supervisor dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _reserved(spec: Spec, state: State) -> socket.socket:
    """Return a socket that keeps the port, and put the address into `state`.

    Whoever sets SO_REUSEADDR, as vLLM does, may bind and listen beside a socket that does not listen itself.
    """
    state.host = own_address() if spec.host is None else spec.host
    place = socket.socket(socket.AF_INET6 if ":" in state.host else socket.AF_INET)
    if spec.port is not None:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind((state.host, spec.port or 0))
    except OSError as error:
        place.close()
        if error.errno == errno.EADDRINUSE:
            raise _GiveUpError(
                f"port {spec.port} of {state.host} is taken by another program; choose another rollout.port, "
                "or rollout.port=null for a free one"
            ) from error
        raise _GiveUpError(
            f"{state.node} cannot listen on {state.host} ({error.strerror}); set rollout.host to an address of its own"
        ) from error
    # Only now: a free port is looked for among those that nobody holds.
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    state.port = place.getsockname()[1]
    return place


def own_address() -> str:
    """Return the private address that other nodes reach this one by."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_SOMEWHERE)
            found = str(probe.getsockname()[0])
        except OSError:  # no network at all
            found = "127.0.0.1"
    if not is_private(found):
        raise _GiveUpError(
            f"{socket.gethostname()} is reached by the public address {found}, and a server there would be open to "
            "everybody; use rollout=vllm_colocate, or a cluster whose nodes have private addresses"
        )
    return found


if __name__ == "__main__":
    sys.exit(Supervisor(Path(sys.argv[1])).run())
