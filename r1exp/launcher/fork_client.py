"""Starts fork servers (`r1exp.launcher.fork_server`), and lets them fork the processes of a step.

The servers of a command listen in a private folder that R1EXP_FORK_SERVER names, so that the members of a sweep use those of the
sweep's command. A server is started when a step first needs it: one for each set of environment variables, because libraries read
some of them when they are imported, and a new one where a source file of r1exp or the installed packages have changed since.

R1EXP_FORK_SERVER=off starts every step in a fresh process.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from r1exp.launcher import keeper
from r1exp.launcher.fork_server import HEADER, Request
from r1exp.launcher.process_tree import GRACE, TREE_VARIABLE, Tree

VARIABLE = "R1EXP_FORK_SERVER"  # folder of the servers' sockets; `off`: no server
_OFF = "off"
_PREFIX = "r1exp-fork-"  # of the folders
_PACKAGE = Path(__file__).parents[1]
_LONGEST = 100  # bytes of a socket's path, of 108
# Read when a step runs, and not by an import; a step may have its own.
_OWN = frozenset(
    ("TMPDIR", "CUDA_VISIBLE_DEVICES", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "COLUMNS", "LINES", "_")
)
_OWN_PREFIXES = ("R1EXP_", "ACCELERATE_")
ENTRY = ("-m", "r1exp.worker_server")
_servers: list[subprocess.Popen[bytes]] = []  # that this process has started


@contextmanager
def fork_servers() -> Iterator[None]:
    """Let this process and those that it starts fork their steps from servers, which end with the block.

    Nothing changes where servers exist already, where R1EXP_FORK_SERVER is `off`, and on systems without /proc.
    """
    if _folder() is not None or os.environ.get(VARIABLE) == _OFF or not Path("/proc/self/stat").exists():
        yield
        return
    folder = _new_folder()
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before
        _end_servers(folder)


def is_off() -> bool:
    """Whether steps start in fresh processes, because no server may be started."""
    return _folder() is None


def last_output() -> str:
    """Return the last line that the server which was started last has printed; empty if there is none."""
    folder = _folder()
    logs = [] if folder is None else sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime_ns)
    lines = logs[-1].read_text(encoding="utf-8", errors="replace").split("\n") if logs else []
    return next((line for line in reversed(lines) if line.strip()), "")


def start_server(environment: Mapping[str, str], uses_deepspeed: bool) -> None:
    """Start the server for an environment unless it runs, and do not wait for it."""
    with suppress(OSError):
        _connected(environment, uses_deepspeed).close()


class ForkedTree(Tree):
    """The processes of a step that a server forks, below a keeper of their own.

    Args:
        arguments: What `python -m` would run.
        environment: All of its variables.
        output: File that the processes write to.
        uses_deepspeed: Whether the step uses DeepSpeed.

    Raises:
        OSError: no server can be started.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        output: IO[bytes],
        uses_deepspeed: bool,
    ) -> None:
        super().__init__(_connected(environment, uses_deepspeed), uuid.uuid4().hex)
        request = Request(
            list(arguments),
            {**environment, TREE_VARIABLE: self._token},
            folder=os.getcwd(),  # noqa: PTH109 - as a process inherits it
            umask=_umask(),
            cores=sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
            grace=GRACE,
        )
        text = request.text()
        socket.send_fds(self._control, [text[: HEADER.size]], [output.fileno()])
        self._control.sendall(text[HEADER.size :])
        self._control.setblocking(False)
        self._is_known = False

    def starts(self) -> bool:
        """Whether the server has neither forked the processes yet nor ended."""
        return self.poll() is None and not self._is_known

    def end(self) -> int:
        """End every process now; what the server has not started yet is not started, and not waited for."""
        if self.starts():
            self._control.close()
            self.returncode = -signal.SIGKILL
        return super().end() if self.returncode is None else self.returncode

    def _keeper_runs(self) -> bool:
        try:
            while data := self._control.recv(64):
                self._received += data
        except BlockingIOError:
            self._is_known = self._is_known or self._know()
            return True
        except OSError:  # the server was killed
            pass
        self._is_known = self._is_known or self._know()
        return False


def _connected(environment: Mapping[str, str], uses_deepspeed: bool) -> socket.socket:
    """Return a connection to the server for an environment, which is started if needed."""
    folder = _folder()
    if folder is None:
        raise FileNotFoundError(VARIABLE)
    shared = {
        name: value
        for name, value in environment.items()
        if name not in _OWN and not name.startswith(_OWN_PREFIXES)
    }
    path = folder / _key(shared, uses_deepspeed)
    with (folder / f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except OSError:  # not started yet, or killed
            own = {name: value for name, value in os.environ.items() if name.startswith("R1EXP_")}
            _start(path, shared | own, uses_deepspeed)
            connection.connect(str(path))
        return connection


def _start(path: Path, environment: Mapping[str, str], uses_deepspeed: bool) -> None:
    """Start a server; requests can be sent at once, and are answered when it has imported everything."""
    with suppress(FileNotFoundError):
        path.unlink()
    owner = (path.parent / "owner").read_text().split()[:2]
    with socket.socket(socket.AF_UNIX) as listener, path.with_suffix(".log").open("ab") as log:
        listener.bind(str(path))
        listener.listen(128)
        command = [sys.executable, *ENTRY, str(listener.fileno()), str(path), *owner]
        server = subprocess.Popen(
            [*command, *(["--deepspeed"] if uses_deepspeed else [])],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno()],
            start_new_session=True,  # Ctrl-C signals only r1exp
        )
    _servers.append(server)
    path.with_suffix(".pid").write_text(f"{server.pid} {keeper.ticks_of(server.pid)}")


def _key(environment: Mapping[str, str], uses_deepspeed: bool) -> str:
    """Return a name for what decides the state of a process once everything is imported."""
    about = [sys.executable, os.getcwd(), sorted(environment.items()), uses_deepspeed, _installed()]  # noqa: PTH109
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]


def _installed() -> list[tuple[str, int, int]]:
    """Return the source files of r1exp with their times and sizes, and the time of the folder of installed packages."""
    found = [
        (str(path), about.st_mtime_ns, about.st_size)
        for path in sorted(_PACKAGE.rglob("*.py"))
        for about in (path.stat(),)
    ]
    folders = [Path(entry) for entry in sys.path if entry.endswith("site-packages")]
    return found + [(str(folder), folder.stat().st_mtime_ns, 0) for folder in folders if folder.is_dir()]


def _folder() -> Path | None:
    """Return the folder of the servers; None if there is none, or its owner has ended."""
    value = os.environ.get(VARIABLE, _OFF)
    if value == _OFF:
        return None
    try:
        pid, ticks, _ = (Path(value) / "owner").read_text().split()
        return Path(value) if _runs(pid, ticks) else None
    except (OSError, ValueError):
        return None


def _new_folder() -> Path:
    """Make a folder that only this user can enter, for servers that end with this process."""
    parent = tempfile.gettempdir()
    short = len(parent) < _LONGEST // 2
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent if short else "/tmp"))
    for old in folder.parent.glob(f"{_PREFIX}*"):
        with suppress(OSError, ValueError):
            *owner, place = (old / "owner").read_text().split()
            if place == _place() and not _runs(*owner):
                shutil.rmtree(
                    old, ignore_errors=True
                )  # its command was killed before it had started a server
    (folder / "owner").write_text(f"{os.getpid()} {keeper.ticks_of(os.getpid())} {_place()}")
    return folder


def _place() -> str:
    """Return the namespace in which the ids of processes are unique."""
    return keeper.namespace() or "-"


def _runs(pid: str, ticks: str) -> bool:
    """Whether a process runs that was identified by its id and its start in clock ticks."""
    return keeper.ticks_of(int(pid)) == int(ticks)


def _end_servers(folder: Path) -> None:
    """End the servers of a folder, and remove it; steps that still run are not ended."""
    for path in folder.glob("*.pid"):
        with suppress(OSError, ValueError):
            pid, ticks = path.read_text().split()
            if _runs(pid, ticks):
                os.kill(int(pid), signal.SIGTERM)
    shutil.rmtree(folder, ignore_errors=True)
    for server in _servers:
        with suppress(subprocess.TimeoutExpired):
            server.wait(5.0)
    _servers.clear()


def _umask() -> int:
    """Return the umask of this process; setting it to read it would change it for other threads."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
