"""Hashes a folder of weights once, and remembers the hash for as long as no file of it changes. Torch-free.

A file counts as unchanged while its path, size, inode, and times of modification and of change are the same. The notes
are files of the user's cache, one for each folder, written atomically: two processes may write the same note at once.
Not remembered: folders of less than 64 MB, which are read in a moment, and folders that changed within the last two
seconds, because a later change could carry the same time.
"""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from r1exp.errors import Refused
from r1exp.files import hash_of, hash_of_folder, read_json, write_text
from r1exp.paths import user_cache

_SMALLEST = 64_000_000  # bytes; reading them takes less than a tenth of a second
_SETTLED = 2.0  # seconds; the coarsest clock among common file systems ticks every 2 s (FAT)


def remembered_hash(folder: Path) -> str:
    """Return `hash_of_folder(folder)`, from the notes of the user's cache if no file has changed since."""
    before = _state(folder)
    note = _note(folder)
    if note is None or sum(size for _, size, *_ in before) < _SMALLEST:
        return hash_of_folder(folder)
    known = _read(note)
    if known.get("files") == before and isinstance(known.get("hash"), str):
        return str(known["hash"])
    found = hash_of_folder(folder)
    newest = max(max(times) for *_, times in before)
    if _state(folder) == before and time.time_ns() - newest > _SETTLED * 1e9:
        content = {"folder": str(folder.resolve()), "files": before, "hash": found}
        with contextlib.suppress(OSError):  # a read-only home costs time and nothing else
            write_text(note, json.dumps(content) + "\n")
    return found


def _state(folder: Path) -> list[list[Any]]:
    """Return [name, bytes, device, inode, [modified, changed]] of every file, in nanoseconds, ordered by name."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            about = path.stat()
            times = [about.st_mtime_ns, about.st_ctime_ns]
            found.append([str(path.relative_to(folder)), about.st_size, about.st_dev, about.st_ino, times])
    return sorted(found)


def _note(folder: Path) -> Path | None:
    cache = user_cache()
    return None if cache is None else cache / "folder-hashes" / f"{hash_of(str(folder.resolve()))}.json"


def _read(note: Path) -> dict[str, Any]:
    """Return the content of a note; empty if there is none, or none that can be read."""
    try:
        content = read_json(note)
    except (OSError, Refused):
        return {}
    return content if isinstance(content, dict) else {}
