"""Finds every process that a command started, also after its parents died, and says of which kind it is.

A process belongs to the place whose token it has in its environment (`MARK`), or to that of its parent: vLLM's engine
overwrites its environment. Who was seen once stays known, so that an orphan is not lost.
"""

import os
from dataclasses import dataclass
from pathlib import Path

MARK = "R1EXP_SOAK"
DAEMONS = "daemons"  # the token of SLURM's daemons; what they start has it until it runs a job's program
_KINDS = (  # part of the command line -> kind, in this order
    ("launcher/keeper.py", "keeper"),
    ("r1exp.runner.slurm_entry", "job's parent"),
    ("r1exp.runner.slurm_node", "node's parent"),
    ("r1exp.runner.member", "member"),
    ("r1exp.launcher.agent", "agent"),
    ("accelerate.commands.launch", "agent"),
    ("r1exp.worker_server", "fork server"),
    ("r1exp.worker", "rank"),
    ("r1exp.rewards.worker_process", "reward worker"),
    ("r1exp.serving", "supervisor"),
    ("vllm.entrypoints", "server"),
    ("VLLM::", "engine"),
    ("soaking/endpoint.py", "endpoint"),
    ("wandb-core", "tracker"),
    ("-m r1exp", "parent"),
)
_COMMANDS = {"slurmctld": "slurmctld", "slurmd": "slurmd", "slurmstepd": "slurmstepd", "srun": "srun"}
_COMMANDS |= {f"r1exp-{kind}": kind for kind in ("keeper", "agent", "rank")} | {"r1exp-server": "fork server"}


@dataclass(frozen=True, order=True)
class Process:
    """A process, which its id and start time identify."""

    pid: int
    started: int  # clock ticks after boot

    def is_alive(self) -> bool:
        """Whether it runs; a process that nobody has waited for does not."""
        fields = _fields(self.pid)
        return fields is not None and fields.started == self.started and fields.state not in "ZX"

    def kind(self) -> str:
        """Return of which kind it is, by its command line."""
        try:
            name = Path(f"/proc/{self.pid}/comm").read_text().strip()
            line = (
                Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
        except OSError:
            return "gone"
        if name in _COMMANDS:
            return _COMMANDS[name]
        kind = next((kind for part, kind in _KINDS if part in line), "other")
        if kind != "reward worker":
            return kind
        fields = _fields(self.pid)
        parent = None if fields is None else _fields(fields.parent)
        is_forked = parent is not None and fields is not None and "worker_process" in _line(fields.parent)
        return kind if is_forked else "fork server"


@dataclass(frozen=True)
class _Fields:
    state: str
    parent: int
    started: int  # clock ticks after boot


def _fields(pid: int) -> _Fields | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    rest = text.rpartition(")")[2].split()
    return _Fields(rest[0], int(rest[1]), int(rest[19]))


def _line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _token(pid: int) -> str:
    """Return the token in the environment of a process, or an empty text."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    mark = f"{MARK}=".encode()
    return next((entry[len(mark) :].decode() for entry in entries if entry.startswith(mark)), "")


class Census:
    """The processes of all places, living and dead."""

    def __init__(self) -> None:
        self._tokens: dict[Process, str] = {}  # an empty text: of nobody here
        self._own = os.getpid()

    def update(self) -> None:
        """Look for new processes."""
        pids = sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
        current: dict[int, Process] = {}
        for pid in pids:
            fields = _fields(pid)
            if fields is None or pid == self._own:
                continue
            process = current[pid] = Process(pid, fields.started)
            if self._tokens.get(process, DAEMONS) not in ("", DAEMONS):
                continue
            parent = current.get(fields.parent) or self._known(fields.parent)
            token = _token(pid) or (self._tokens.get(parent, "") if parent else "")
            if token or process not in self._tokens:
                self._tokens[process] = token
        for process in [
            each for each, token in self._tokens.items() if not token and each.pid not in current
        ]:
            del self._tokens[process]

    def _known(self, pid: int) -> Process | None:
        fields = _fields(pid)
        return None if fields is None else Process(pid, fields.started)

    def alive(self, token: str) -> list[Process]:
        """Return the running processes of a place, oldest first."""
        found = [process for process, own in self._tokens.items() if own == token and process.is_alive()]
        return sorted(found, key=lambda process: (process.started, process.pid))

    def forget(self, token: str) -> None:
        """Forget the processes of a place that has come to its end."""
        for process in [each for each, own in self._tokens.items() if own == token]:
            del self._tokens[process]


def now_in_ticks() -> int:
    """Return the time in the unit of `Process.started`."""
    with Path("/proc/uptime").open() as file:
        return int(float(file.read().split()[0]) * os.sysconf("SC_CLK_TCK"))


def listening(processes: list[Process]) -> list[int]:
    """Return the TCP ports on which processes listen."""
    inodes = set()
    for process in processes:
        try:
            links = [str(path.readlink()) for path in Path(f"/proc/{process.pid}/fd").iterdir()]
        except OSError:
            continue
        inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else []:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return sorted(ports)
