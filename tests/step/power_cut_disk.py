"""Replays the writes of a run, as strace recorded them, and builds what a disk holds after a power cut at any point.

A disk keeps for certain what was flushed with fsync: the content of a file, and the names in a folder. Of everything else it may
keep all, nothing or a part. A program that survives every such state survives a power cut on any file system.

`Disk` applies the recorded calls to a tree of files in memory. That the tree equals the real one at the end of the run is
tested: nothing that wrote was missed (a write through a memory map, for example).
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CALLS = (
    "open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,lseek,ftruncate,truncate,fallocate,fsync,fdatasync,rename,"
    "renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,symlink,symlinkat,sendfile,copy_file_range"
)
STRACE = (
    "strace",
    "-f",
    "-y",
    "-qq",
    "--seccomp-bpf",
    "-xx",
    "-s",
    "100000000",
    "-e",
    "signal=none",
    "-e",
    f"trace={CALLS}",
)
MODES = ("dropped", "torn", "mixed")

_CALL = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)(.*)$", re.DOTALL)
_RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$", re.DOTALL)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FOLDER_OR_FILE = re.compile(r"(AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2})*)>")


@dataclass
class File:
    """A file: what a reader sees, and what is on the disk for certain."""

    data: bytearray = field(default_factory=bytearray)
    flushed: bytes = b""
    offset: int = 0
    appends: bool = False


@dataclass
class Folder:
    """A folder: its names, and those that are on the disk for certain."""

    names: "dict[str, File | Folder]" = field(default_factory=dict)
    flushed: "dict[str, File | Folder]" = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A call that changed something below the root."""

    name: str
    paths: tuple[Path, ...]
    data: bytes
    numbers: tuple[int, ...]  # the last arguments that are numbers
    flags: str
    result: int


def calls(trace: Path, root: Path) -> Iterator[Call]:
    """Yield the successful calls of a recording that name something below `root`, in the order in which they ended."""
    marker = "".join(f"\\x{byte:02x}" for byte in str(root).encode())
    begun: dict[str, str] = {}
    with trace.open(encoding="ascii") as lines:
        for line in lines:
            if line.rstrip().endswith("<unfinished ...>"):
                begun[line.split(" ", 1)[0]] = line.rstrip().removesuffix("<unfinished ...>")
                continue
            resumed = _RESUMED.match(line)
            text = begun.pop(resumed[1]) + resumed[2] if resumed else line
            if marker in text and (found := _CALL.match(text)) and int(found[4]) >= 0:
                yield _call(found[2], found[3], int(found[4]))


def _call(name: str, arguments: str, result: int) -> Call:
    handles = [Path(_bytes(text).decode()) for _, text in _FOLDER_OR_FILE.findall(arguments)]
    strings = [_bytes(text) for text in _STRING.findall(arguments)]
    rest = _STRING.sub("", arguments)
    numbers = tuple(int(text) for text in re.findall(r"(?<=, )-?\d+(?= *(?:,|$))", rest))
    if name in ("write", "pwrite64", "writev", "pwritev", "pwritev2"):
        return Call(name, tuple(handles[:1]), b"".join(strings)[:result], numbers, rest, result)
    if not strings:
        return Call(name, tuple(handles), b"", numbers, rest, result)
    if "at" in name.removeprefix("creat")[-3:] or name == "renameat2":
        paths = tuple(handle / text.decode() for handle, text in zip(handles, strings, strict=False))
    else:
        paths = tuple(Path(text.decode()) for text in strings)
    return Call(name, paths, b"", numbers, rest, result)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


class Disk:
    """The tree below `root`, to which recorded calls are applied one after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = Folder()

    def find(self, path: Path) -> File | Folder | None:
        """Return what has a name, or None."""
        node: File | Folder | None = self.top
        for part in path.relative_to(self.root).parts:
            node = node.names.get(part) if isinstance(node, Folder) else None
        return node

    def apply(self, call: Call) -> None:
        """Carry out a call."""
        if not all(path.is_relative_to(self.root) for path in call.paths):
            return
        path = call.paths[0]
        node = self.find(path)
        match call.name:
            case "open" | "openat" | "creat":
                self._open(path, node, call.flags)
            case "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" if isinstance(node, File):
                is_placed = call.name.startswith("p")
                self._write(node, call.data, call.numbers[-1] if is_placed else None)
            case "lseek" if isinstance(node, File):
                node.offset = call.result
            case "ftruncate" | "truncate" if isinstance(node, File):
                _resize(node.data, call.numbers[-1])
            case "fsync" | "fdatasync" if isinstance(node, File):
                node.flushed = bytes(node.data)
            case "fsync" | "fdatasync" if isinstance(node, Folder):
                node.flushed = dict(node.names)
            case "mkdir" | "mkdirat":
                self._parent(path).names[path.name] = Folder()
            case "rename" | "renameat" | "renameat2":
                moved = self._parent(path).names.pop(path.name)
                self._parent(call.paths[1]).names[call.paths[1].name] = moved
            case "link" | "linkat":
                assert node is not None
                self._parent(call.paths[1]).names[call.paths[1].name] = node
            case "unlink" | "unlinkat" | "rmdir":
                del self._parent(path).names[path.name]
            case "symlink" | "symlinkat" | "sendfile" | "copy_file_range" | "fallocate":
                raise NotImplementedError(call.name)

    def after_a_cut(self, mode: str, seed: int) -> Folder:
        """Return a state in which a power cut may leave the disk, as names and contents.

        Args:
            mode: dropped: nothing that was not flushed is there; torn: every name is there, and half of what was not
                flushed; mixed: for each name and file by chance the old, the new, a part or zeros.
            seed: Of `mixed`.
        """
        return _left(self.top, mode, random.Random(seed))

    def _parent(self, path: Path) -> Folder:
        found = self.find(path.parent)
        assert isinstance(found, Folder), path
        return found

    def _open(self, path: Path, node: File | Folder | None, flags: str) -> None:
        if isinstance(node, Folder):
            return
        if node is None:
            node = self._parent(path).names.setdefault(path.name, File())
            assert isinstance(node, File)
        if "O_TRUNC" in flags:
            node.data.clear()
        if "O_RDONLY" not in flags:
            node.offset, node.appends = 0, "O_APPEND" in flags

    @staticmethod
    def _write(file: File, data: bytes, at: int | None) -> None:
        start = len(file.data) if file.appends else file.offset if at is None else at
        if len(file.data) < start:
            _resize(file.data, start)
        file.data[start : start + len(data)] = data
        if at is None:
            file.offset = start + len(data)


def write(folder: Folder, place: Path) -> None:
    """Write a tree below a folder that exists."""
    for name, node in folder.names.items():
        if isinstance(node, Folder):
            (place / name).mkdir()
            write(node, place / name)
        else:
            (place / name).write_bytes(node.data)


def contents(folder: Folder, below: str = "") -> dict[str, bytes]:
    """Return path -> content for every file of a tree."""
    found: dict[str, bytes] = {}
    for name, node in folder.names.items():
        if isinstance(node, Folder):
            found |= contents(node, f"{below}{name}/")
        else:
            found[below + name] = bytes(node.data)
    return found


def _resize(data: bytearray, size: int) -> None:
    del data[size:]
    data.extend(bytes(size - len(data)))


def _left(folder: Folder, mode: str, chance: random.Random) -> Folder:
    names = {"dropped": folder.flushed, "torn": folder.names}.get(mode)
    if names is None:
        names = {}
        for name in sorted(folder.names.keys() | folder.flushed.keys()):
            node = chance.choice((folder.names, folder.flushed)).get(name)
            if node is not None:
                names[name] = node
    found = Folder()
    for name, node in names.items():
        if isinstance(node, Folder):
            found.names[name] = _left(node, mode, chance)
        else:
            found.names[name] = File(bytearray(_kept(node, mode, chance)))
    return found


def _kept(file: File, mode: str, chance: random.Random) -> bytes:
    now, old = bytes(file.data), file.flushed
    if now == old or mode == "dropped":
        return old
    torn = now[: (len(old) + len(now)) // 2]
    # What is on the disk stays as it is.
    num_equal = next(
        (at for at, pair in enumerate(zip(old, now, strict=False)) if pair[0] != pair[1]), len(old)
    )
    zeros = now[:num_equal] + bytes(len(now) - num_equal)
    return torn if mode == "torn" else chance.choice((old, now, torn, zeros))
