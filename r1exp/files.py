"""Files that are whole or absent: every writer goes through a temporary name and one rename."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader, or a crash, never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` when the block ends, and vanishes when it breaks."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield unfinished
        unfinished.chmod(0o755)  # mkdtemp makes it readable to its owner alone
        unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def link_tree(source: Path, target: Path, without: Sequence[str] = ()) -> None:
    """Make `target` a copy of the folder `source` that shares its bytes where the file system allows.

    Whole or absent like everything here. Links are safe because no file of ours is changed in place.

    Args:
        source: An existing folder.
        target: Must not exist yet.
        without: Names that are left out, at any depth.
    """
    with whole_folder(target) as unfinished:
        ignore = shutil.ignore_patterns(*without) if without else None
        shutil.copytree(source, unfinished, copy_function=_link_or_copy, dirs_exist_ok=True, ignore=ignore)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def hash_of(value: Any) -> str:
    """Return a short content hash (16 hex digits of SHA-256) of a JSON-able value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_of_file(path: Path) -> str:
    """Return 16 hex digits of the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def hash_of_folder(folder: Path) -> str:
    """Return a content hash of every file below `folder`: names and bytes, not times."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hash_of([[str(path.relative_to(folder)), hash_of_file(path)] for path in files])
