"""Runs between a run and its vLLM server, and ends the server within seconds if either of them or itself exits.

    r1exp --pipe--> supervisor ----> keeper ----> vLLM's API server ----> engine, workers
         [through srun, where the server has a node of its own]

No process of the server outlives the run:

* Only the run holds the writing end of the supervisor's stdin. However the run ends, `kill -9` included, the kernel
  closes the pipe; the supervisor reads the end of the file and ends the server. srun forwards the end of its stdin,
  so that this also works on another node.
* The keeper (r1exp/launcher/keeper.py) ends every descendant of the server when the server ends, also an engine whose
  API server was killed, and removes the segments of shared memory that they leave. The server gets SIGTERM, and what is
  left `_GRACE` seconds later gets SIGKILL.
* The keeper does the same when the supervisor exits, and the supervisor when the keeper was killed.

The supervisor binds the port, without listening, before the first start and until the end, so that two servers never
get the same port and a restarted server gets its own port again. stdin receives one line of JSON (`Spec`), then
`ready` each time the server has begun to answer. After the first `ready`, a server that exits is restarted, at most
`restarts` times. The state is written to `server.json` in the step's folder, the server's output to `server.log`.
"""

import errno
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from r1exp.addresses import is_private
from r1exp.files import write_json
from r1exp.launcher.process_tree import ProcessTree
from r1exp.launcher.scratch import keep_kernels
from r1exp.paths import StepPaths
from r1exp.serving import sockets
from r1exp.serving.command import Spec

_GRACE = 4.0  # seconds between SIGTERM and SIGKILL
_POLL = 0.2  # seconds between two checks of the server
# Nothing is sent; connecting selects the interface. IPv6 where there is no IPv4.
_PRIVATE_DESTINATIONS = ((socket.AF_INET, "10.255.255.255"), (socket.AF_INET6, "fd00:ffff::1"))


@dataclass
class State:
    """What the run and its workers read about the server."""

    state: str = "starting"  # starting, running, failed, ended
    reason: str | None = None  # of `failed`
    host: str = ""
    port: int = 0
    pid: int = 0  # of the server, the leader of a process group
    node: str = ""
    starts: int = 0

    def write(self, folder: Path) -> None:
        """Replace server.json."""
        write_json(StepPaths(folder).server_state, asdict(self))


class _LeaveError(Exception):
    """The run has ended, or a signal requested the end."""


class _GiveUpError(Exception):
    """The server cannot be started or restarted; the text states the reason."""


class Supervisor:
    """Starts one server, restarts it where allowed, and ends all processes it started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state = State(node=socket.gethostname())
        self._server: ProcessTree | None = None
        self._received = b""  # bytes from stdin that are not a whole line yet
        self._must_end = False  # a signal requested the end

    def run(self) -> int:
        """Start the server, watch it and end it; return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._request_end)
        code = 0
        try:
            spec = Spec(**json.loads(self._next_line()))
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
        """Start the server and restart it while that is allowed; always raises _LeaveError or _GiveUpError."""
        self._start(spec)
        has_been_ready = False
        while True:
            if self._next_line(_POLL) == b"ready":
                has_been_ready = True
                self._state.state = "running"
                self._state.write(self._folder)
            assert self._server is not None
            ended = self._server.poll()
            if ended is None:
                continue
            self._end_server()  # its engine may still run
            how = f"killed by {signal.Signals(-ended).name}" if ended < 0 else f"exit status {ended}"
            if not has_been_ready:
                raise _GiveUpError(f"the vLLM server ended before it was ready ({how})")
            if self._state.starts > spec.restarts:
                raise _GiveUpError(f"the vLLM server ended ({how}) after {self._state.starts} start(s)")
            self._start(spec)

    def _start(self, spec: Spec) -> None:
        address = ["--host", self._state.host, "--port", str(self._state.port)]
        with StepPaths(self._folder).server_log.open("ab") as log:
            command = [sys.executable, *spec.arguments, *address]
            own = sockets.make(self._folder)
            private = {sockets.VARIABLE: str(own), "TMPDIR": str(own), **keep_kernels(own)}
            environment = {**os.environ, **private, **spec.environment}
            self._server = ProcessTree(command, environment, log, grace=_GRACE)
        self._state.state = "starting"
        self._state.starts += 1
        self._state.pid = self._server.pid
        self._state.write(self._folder)

    def _next_line(self, timeout: float | None = None) -> bytes:
        """Return the next line from the run; b"" if none came within `timeout` seconds (None: wait for it).

        Raises _LeaveError when the run has closed the pipe or a signal requested the end.
        """
        while b"\n" not in self._received:
            if self._must_end:
                raise _LeaveError
            if not select.select([0], [], [], _POLL)[0]:
                if timeout is not None:
                    return b""
                continue
            data = os.read(0, 1 << 16)
            if not data:
                raise _LeaveError
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _request_end(self, number: int, frame: object) -> None:
        self._must_end = True

    def _end_server(self) -> None:
        """End the server and everything it started; return when all have ended."""
        if self._server is not None:
            self._server.end()
            sockets.remove(self._folder)


def _reserved(spec: Spec, state: State) -> socket.socket:
    """Return a socket that reserves the port, and set the address in `state`.

    A process that sets SO_REUSEADDR, as vLLM does, may bind and listen on a port whose other socket does not listen.
    """
    state.host = own_address() if spec.host is None else spec.host
    reserved = socket.socket(socket.AF_INET6 if ":" in state.host else socket.AF_INET)
    if spec.port is not None:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        reserved.bind((state.host, spec.port or 0))
    except OSError as error:
        reserved.close()
        if error.errno == errno.EADDRINUSE:
            raise _GiveUpError(
                f"port {spec.port} of {state.host} is taken by another program; choose another rollout.port, "
                "or rollout.port=null for a free one"
            ) from error
        raise _GiveUpError(
            f"{state.node} cannot listen on {state.host} ({error.strerror}); set rollout.host to an address of its own"
        ) from error
    # Set after binding: the kernel chooses a free port only among those without any socket.
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    state.port = reserved.getsockname()[1]
    return reserved


def own_address() -> str:
    """Return the private address at which other nodes can connect to this one."""
    found = "127.0.0.1"  # there is no network
    for family, destination in _PRIVATE_DESTINATIONS:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((destination, 1))
            found = str(probe.getsockname()[0])
            break
    if not is_private(found):
        raise _GiveUpError(
            f"{socket.gethostname()} has the public address {found}, and a server there would be open to "
            "anyone; use rollout=vllm_colocate, or a cluster whose nodes have private addresses"
        )
    return found


if __name__ == "__main__":
    sys.exit(Supervisor(Path(sys.argv[1])).run())
