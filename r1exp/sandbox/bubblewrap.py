"""Builds the command line that isolates one process tree, and sets the resource limits of its processes.

The scratch directory is a tmpfs with a limit on bytes and one on files, which bubblewrap cannot set: `unshare`
creates a mount namespace (as a user, in a user namespace), where `mount` mounts it, and bubblewrap, started
there, takes it over. bubblewrap creates all other namespaces and the read-only view of the file system, and
loads the system call filter. As root, the tree runs under an unused user id, to which `setpriv` switches
inside; otherwise it runs in a user namespace. In both cases the program has no capabilities and cannot
gain any, and its limit on processes counts only its own. docs/sandbox.md lists what this covers and what
it does not.
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
from r1exp.sandbox.base import Language, Limits, SandboxDownError, ToolMissingError

SCRATCH = "/scratch"  # the only folder that a program can write to
_PACKAGES = {"bwrap": "bubblewrap", "setpriv": "util-linux", "unshare": "util-linux", "mount": "mount"}
_MOUNT_POINT = "/sys"  # every machine has this folder, and no program in a sandbox sees it
_MOUNT = '"$1" -n -i -t tmpfs -o "$2" scratch "$3" && shift 3 && exec "$@"'  # of the shell
_NOBODY = "65534"  # user and group id in a user namespace
_DEVICES = ("null", "full", "random", "urandom")  # /dev/zero would give memory that no limit counts
_MIB = 1 << 20
_HEADROOM_MIB = 256  # address space for an interpreter, libraries and stacks, in addition to the memory limit
_SIGNALS = 128  # pending signals and timers
_LIMITED_TO_0 = (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE,
                 resource.RLIMIT_NICE, resource.RLIMIT_RTPRIO)  # fmt: skip
_FIRST_UID = 1 << 29  # no system assigns user ids from here on
_UIDS_PER_PROCESS = 64

# All environment variables of a program. With a fixed hash seed, sets of words print in the same order.
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin", "HOME": SCRATCH, "TMPDIR": SCRATCH, "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8",
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Identity:
    """The user under which a process tree runs."""

    namespaces: tuple[str, ...]  # flags of unshare
    flags: tuple[str, ...]  # of bwrap
    inside: tuple[str, ...]  # command that is put in front of the program


_free = threading.Semaphore(_UIDS_PER_PROCESS)
_taken: set[int] = set()
_lock = threading.Lock()


@contextmanager
def identity() -> Iterator[Identity]:
    """Yield the user of a tree: as root a user id that no other process has, else a user namespace."""
    if os.geteuid() != 0 or not _root_of_the_machine():
        inside = ("--unshare-user", "--uid", _NOBODY, "--gid", _NOBODY)
        yield Identity(("--user", "--map-root-user", "--mount"), inside, ())
        return
    with _unused_uid() as uid:
        drop = ("--reuid", uid, "--regid", uid, "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
        keep = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")  # what setpriv needs to give up the rest
        flags = ("--cap-drop", "ALL", *itertools.chain.from_iterable(("--cap-add", name) for name in keep))
        yield Identity(("--mount",), flags, (_tool("setpriv"), *drop, "--"))


@contextmanager
def _unused_uid() -> Iterator[str]:
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
    """Return whether this root is the host's; in a container with mapped ids, other ids may not exist."""
    return Path("/proc/self/uid_map").read_text(encoding="ascii").split() == ["0", "0", "4294967295"]


@functools.cache
def _tool(name: str) -> str:
    """Return the path of a program. Raises SandboxDownError if it is not installed."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        raise SandboxDownError(
            f"`{name}` is not installed, and without it code cannot be isolated; "
            f"type: apt-get install {_PACKAGES[name]} (or choose another provider: sandbox.kind=piston)"
        )
    return path


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python interpreter that a sandbox can start."""

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
def node() -> tuple[str, str]:
    """Return the path of Node, and the folder that it was installed to. Raises ToolMissingError."""
    path = shutil.which("node") or shutil.which("nodejs")
    if path is None:
        raise ToolMissingError("node", "nodejs")
    real = Path(path).resolve()
    return str(real), str(real.parents[1])


@functools.cache
def _file_system(prefix: str) -> tuple[str, ...]:
    """Return the flags of the read-only view: /usr, the interpreter, and the sandbox's own /proc and /dev."""
    view = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):  # links into /usr on most systems
        folder = Path("/", name)
        if folder.is_symlink():
            view += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            view += ["--ro-bind", str(folder), str(folder)]
    view += ["--perms", "0755", "--dir", "/etc"]  # bwrap would make it unreadable for other users
    for name in ("/etc/ld.so.cache", "/etc/alternatives"):  # the linker's index, and the target of `c++`
        view += ["--ro-bind-try", name, name]
    if not Path(prefix).is_relative_to("/usr"):
        for parent in reversed(Path(prefix).parents[:-1]):
            view += ["--perms", "0755", "--dir", str(parent)]
        view += ["--ro-bind", prefix, prefix]
    view += ["--proc", "/proc", "--tmpfs", "/dev"]
    for name in _DEVICES:
        view += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for name, target in {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}.items():
        view += ["--symlink", f"/proc/self/fd{target}", f"/dev/{name}"]
    return tuple(view)


@dataclass(frozen=True, slots=True)
class Descriptors:
    """File descriptors that bwrap inherits and the program does not."""

    files: dict[str, int]  # path in the sandbox -> descriptor with its content
    seccomp: int  # the filter program
    status: int  # bwrap writes the host's id of the tree's pid 1 to it, later the exit code
    block: int  # the program starts when a byte can be read from it


def command(
    who: Identity, limits: Limits, prefix: str, inherited: Descriptors, program: list[str]
) -> list[str]:
    """Return the argv that runs `program` in isolation.

    Args:
        who: The user of the tree.
        limits: Only those of the scratch directory are used here.
        prefix: Folder of the Python or Node that must be visible.
        inherited: File descriptors for bwrap.
        program: The command to run inside.
    """
    size = f"size={limits.scratch_mib * _MIB},nr_inodes={limits.scratch_files},mode=1777,nosuid,nodev"
    return [
        _tool("unshare"), *who.namespaces, "/bin/sh", "-c", _MOUNT, "sh", _tool("mount"), size, _MOUNT_POINT,
        _tool("bwrap"), *who.flags,
        "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
        "--hostname", "sandbox", "--new-session", "--die-with-parent",
        *_file_system(prefix),
        "--bind", _MOUNT_POINT, SCRATCH,
        *itertools.chain.from_iterable(
            ("--perms", "0555", "--file", str(source), path) for path, source in inherited.files.items()
        ),
        "--remount-ro", "/dev", "--remount-ro", "/proc", "--remount-ro", "/", "--chdir", SCRATCH,
        "--seccomp", str(inherited.seccomp), "--json-status-fd", str(inherited.status),
        "--block-fd", str(inherited.block),
        "--", *who.inside, *program,
    ]  # fmt: skip


def set_limits(pid: int, limits: Limits, stack_mib: int | None, language: Language) -> None:
    """Set the resource limits of the process `pid` and of all that it will start.

    Args:
        pid: A process that is blocked.
        limits: The limits.
        stack_mib: MiB of stack; None: the system's own limit.
        language: Of the program. Node reserves much address space that it does not use.
    """
    memory = resource.RLIMIT_DATA if language == "javascript" else resource.RLIMIT_AS
    sizes = {
        resource.RLIMIT_CPU: math.ceil(limits.cpu_seconds),  # whole seconds; `process.run` is more exact
        memory: (limits.memory_mib + _HEADROOM_MIB) * _MIB,
        resource.RLIMIT_FSIZE: limits.scratch_mib * _MIB,
        resource.RLIMIT_NPROC: limits.num_processes,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_SIGPENDING: _SIGNALS,
        **dict.fromkeys(_LIMITED_TO_0, 0),
    }
    if stack_mib is not None:
        sizes[resource.RLIMIT_STACK] = stack_mib * _MIB
    for which, size in sizes.items():
        _, ceiling = resource.prlimit(pid, which)
        size = size if ceiling == resource.RLIM_INFINITY else min(size, ceiling)
        resource.prlimit(pid, which, (size, size))


def missing() -> str | None:
    """Return what this machine lacks to isolate programs, or None. Starts no process."""
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
