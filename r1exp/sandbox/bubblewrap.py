"""The command line that isolates one process tree, and the resource limits of each of its processes.

bubblewrap makes the namespaces, the read-only view of the file system and the scratch directory, and
loads the system call filter. As root the tree runs under a user id of its own, taken by `setpriv`
inside; otherwise in a user namespace. Either way the program has no capabilities, cannot gain any, and
its process count is its own. docs/sandbox.md says what this covers and what not.
"""

import functools
import itertools
import math
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from r1exp.sandbox import seccomp
from r1exp.sandbox.base import Limits, SandboxDownError

SCRATCH = "/scratch"  # the only place a program may write
_PACKAGES = {"bwrap": "bubblewrap", "setpriv": "util-linux"}
_MIB = 1 << 20
_HEADROOM_MIB = 256  # address space for an interpreter, libraries and stacks, beyond the memory limit
_NONE_OF = (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE,
            resource.RLIMIT_NICE, resource.RLIMIT_RTPRIO)  # fmt: skip
_FIRST_UID = 1 << 29  # no system gives out user ids up here
_UIDS_PER_PROCESS = 64

ENVIRONMENT = {  # all a program sees; the hash seed makes sets of words print in one order
    "PATH": "/usr/bin:/bin", "HOME": SCRATCH, "TMPDIR": SCRATCH, "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8",
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Identity:
    """Under whose name a tree runs."""

    flags: tuple[str, ...]  # for bwrap
    inside: tuple[str, ...]  # command in front of the program


_free = threading.Semaphore(_UIDS_PER_PROCESS)
_taken: set[int] = set()
_lock = threading.Lock()


@contextmanager
def identity() -> Iterator[Identity]:
    """Give a tree its name: a user id that nothing else has as root, else a user namespace."""
    if os.geteuid() != 0 or not _root_of_the_machine():
        yield Identity(("--unshare-user",), ())
        return
    with _uid_of_its_own() as uid:
        drop = ("--reuid", uid, "--regid", uid, "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
        keep = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")  # what setpriv needs to give up the rest
        flags = ("--cap-drop", "ALL", *itertools.chain.from_iterable(("--cap-add", name) for name in keep))
        yield Identity(flags, (_tool("setpriv"), *drop, "--"))


@contextmanager
def _uid_of_its_own() -> Iterator[str]:
    with _free:
        with _lock:
            slot = next(slot for slot in itertools.count() if slot not in _taken)
            _taken.add(slot)
        try:
            yield str(_FIRST_UID + os.getpid() % (1 << 22) * _UIDS_PER_PROCESS + slot)
        finally:
            with _lock:
                _taken.discard(slot)


def _root_of_the_machine() -> bool:
    """False in a container whose root is somebody else outside: other user ids may not exist there."""
    return Path("/proc/self/uid_map").read_text(encoding="ascii").split() == ["0", "0", "4294967295"]


@functools.cache
def _tool(name: str) -> str:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        raise SandboxDownError(
            f"`{name}` is not installed, and without it code cannot be isolated; "
            f"type: apt-get install {_PACKAGES[name]} (or choose another provider: sandbox.kind=piston)"
        )
    return path


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that a sandbox can start."""

    executable: str
    prefix: str  # the folder with its standard library


@functools.cache
def interpreter(path: str | None) -> Interpreter:
    """Return the Python at `path`, by default the one that runs r1exp, without its virtual environment."""
    if path is None:
        executable, prefix = getattr(sys, "_base_executable", sys.executable), sys.base_prefix
    else:
        answer = subprocess.run(
            [path, "-I", "-c", "import sys; print(sys._base_executable); print(sys.base_prefix)"],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        executable, prefix = answer.stdout.splitlines()
    return Interpreter(os.path.realpath(executable), os.path.realpath(prefix))


@functools.cache
def _file_system(prefix: str) -> tuple[str, ...]:
    """The read-only view: /usr, the interpreter, /proc and /dev of the sandbox itself, nothing else."""
    view = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):  # links into /usr on most systems
        folder = Path("/", name)
        if folder.is_symlink():
            view += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            view += ["--ro-bind", str(folder), str(folder)]
    view += ["--perms", "0755", "--dir", "/etc"]  # bwrap would make it unreadable for others
    for name in ("/etc/ld.so.cache", "/etc/alternatives"):  # the linker's index, and what `c++` means
        view += ["--ro-bind-try", name, name]
    if not Path(prefix).is_relative_to("/usr"):
        for parent in reversed(Path(prefix).parents[:-1]):
            view += ["--perms", "0755", "--dir", str(parent)]
        view += ["--ro-bind", prefix, prefix]
    return (*view, "--proc", "/proc", "--dev", "/dev")


@dataclass(frozen=True, slots=True)
class Descriptors:
    """File descriptors that bwrap inherits and the program does not."""

    files: dict[str, int]  # path inside -> where to copy it from
    seccomp: int
    status: int  # bwrap writes the tree's pid 1, later the exit code
    block: int  # nothing of the program runs before a byte comes here


def command(
    who: Identity, limits: Limits, prefix: str, inherited: Descriptors, program: list[str]
) -> list[str]:
    """Return the argv that runs `program`; `prefix` is the folder of the Python to show."""
    return [
        _tool("bwrap"), *who.flags,
        "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
        "--hostname", "sandbox", "--new-session", "--die-with-parent",
        *_file_system(prefix),
        "--perms", "1777", "--size", str(limits.scratch_mib * _MIB), "--tmpfs", SCRATCH,
        *itertools.chain.from_iterable(
            ("--perms", "0555", "--file", str(source), path) for path, source in inherited.files.items()
        ),
        "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", SCRATCH,
        "--seccomp", str(inherited.seccomp), "--json-status-fd", str(inherited.status),
        "--block-fd", str(inherited.block),
        "--", *who.inside, *program,
    ]  # fmt: skip


def bound(pid: int, limits: Limits, stack_mib: int | None) -> None:
    """Put limits on the process `pid` and on all that it will start; `stack_mib` None keeps the system's."""
    sizes = {
        resource.RLIMIT_CPU: math.ceil(limits.cpu_seconds),  # whole seconds; the watch is finer
        resource.RLIMIT_AS: (limits.memory_mib + _HEADROOM_MIB) * _MIB,
        resource.RLIMIT_FSIZE: limits.scratch_mib * _MIB,
        resource.RLIMIT_NPROC: limits.num_processes,
        resource.RLIMIT_NOFILE: 64,
        **dict.fromkeys(_NONE_OF, 0),
    }
    if stack_mib is not None:
        sizes[resource.RLIMIT_STACK] = stack_mib * _MIB
    for which, size in sizes.items():
        _, ceiling = resource.prlimit(pid, which)
        size = size if ceiling == resource.RLIM_INFINITY else min(size, ceiling)
        resource.prlimit(pid, which, (size, size))


def missing() -> str | None:
    """Return what keeps this machine from isolating anything, or None. Does not start anything."""
    if not sys.platform.startswith("linux") or seccomp.architecture() is None:
        return (
            f"code runs locally on Linux on x86_64 or aarch64 only, this is {sys.platform}; "
            "choose another provider: sandbox.kind=piston"
        )
    try:
        for name in _PACKAGES:
            _tool(name)
    except SandboxDownError as down:
        return str(down)
    return None
