"""Adds up what a process tree uses: processes, CPU seconds, memory of its own and memory in the kernel.

No resource limit counts the memory of page tables, memory areas, sockets and watches of epoll, so that they
are counted here, from /proc. What cannot be counted there is refused (`seccomp`) or has a limit of its own
(`bubblewrap.set_limits`, the scratch directory).
"""

import functools
import os
from contextlib import suppress
from pathlib import Path

from r1exp.sandbox.base import Language

_TICKS = os.sysconf("SC_CLK_TCK")  # per second; how /proc counts CPU time
_OWN = (b"RssAnon:", b"RssShmem:", b"VmSwap:", b"VmPTE:", b"HugetlbPages:")
_AREA_KIB, _WATCH_KIB = 0.5, 0.25  # KiB of slab of a memory area, and of a watch
_READ, _CHUNK = 1 << 18, 1 << 16  # bytes of a list that are read at most, and at once
_LONG_LIST_KIB = 65_530 * _AREA_KIB  # counted for a list that is longer; the kernel's limit on memory areas


def usage(root: int, language: Language) -> tuple[int, int, float]:
    """Return the number of processes below and including `root`, their memory in KiB, and CPU seconds.

    Counts no pages of files, because those of libraries are shared with other programs. The CPU seconds of
    an exited process are counted for the process that waited for it.
    """
    waiting, num_processes, memory_kib, ticks = [root], 0, _sockets_kib(root), 0
    while waiting:
        folder = Path("/proc", str(waiting.pop()))
        try:
            status, stat = (folder / "status").read_bytes(), (folder / "stat").read_bytes()
            for task in (folder / "task").iterdir():
                waiting += [int(pid) for pid in (task / "children").read_bytes().split()]
            memory_kib += _lines_kib(folder / "maps", _AREA_KIB)
            if language == "javascript":  # in other languages there are none
                memory_kib += _watches_kib(folder)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has exited meanwhile
        num_processes += 1
        # User and system time, of the process itself and of the children that it waited for.
        ticks += sum(int(number) for number in stat.rpartition(b")")[2].split()[11:15])
        for line in status.splitlines():
            if line.startswith(_OWN):
                memory_kib += int(line.split()[1])
    return num_processes, int(memory_kib), ticks / _TICKS


def _lines_kib(path: Path, each: float) -> float:
    """Return `each` KiB for every line of a file of /proc; for long files a larger number."""
    length, lines = 0, 0
    with suppress(PermissionError), path.open("rb", buffering=0) as file:
        while data := file.read(_CHUNK):
            length, lines = length + len(data), lines + data.count(b"\n")
            if length > _READ:
                return _LONG_LIST_KIB
    return lines * each


def _sockets_kib(root: int) -> float:
    """Return the KiB that the buffers of all Unix sockets of a network namespace may hold."""
    try:
        return _lines_kib(Path(f"/proc/{root}/net/unix"), _buffer_kib())
    except OSError:  # it has exited meanwhile
        return 0.0


@functools.cache
def _buffer_kib() -> float:
    """Return the KiB that one socket may have sent and that nobody has read."""
    return int(Path("/proc/sys/net/core/wmem_default").read_bytes()) / 1024


def _watches_kib(folder: Path) -> float:
    watches = 0.0
    with suppress(PermissionError):
        for entry in (folder / "fd").iterdir():
            with suppress(FileNotFoundError):
                if str(entry.readlink()) == "anon_inode:[eventpoll]":
                    watches += _lines_kib(folder / "fdinfo" / entry.name, _WATCH_KIB)
    return watches
