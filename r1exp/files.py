"""Writes files and folders atomically: under a temporary name, which is then renamed."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from r1exp.errors import Refused


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically; a reader never sees a partial file, also after a crash."""
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


def sync_file(path: Path) -> None:
    """Return when the content of a file, or the names in a folder, are on the disk and survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folders(folder: Path, up: int = 0) -> None:
    """Flush the names in `folder`, in every folder below it, and in `up` folders above it, the innermost first."""
    below = sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
    for place in (*below, folder, *folder.absolute().parents[:up]):
        try:
            sync_file(place)
        except OSError as error:  # a folder that may not be read, or a file system that cannot flush folders
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP):
                raise


def why_not_written(error: OSError, folder: Path) -> str:
    """Return what kept a file in `folder` from being written, with the space there if the disk is full."""
    place = Path(os.fsdecode(error.filename)) if error.filename else folder
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return f"{place}: {error.strerror or error}"
    existing = next((path for path in (place, *place.absolute().parents) if path.exists()), Path("/"))
    space = shutil.disk_usage(existing)
    return (
        f"{place}: no space left on the disk ({space.free / 1e6:.1f} MB of {space.total / 1e6:.0f} MB are free); free some, "
        "or write to another disk with paths.runs=DIR"
    )


def provide_cache() -> None:
    """Set HOME and XDG_CACHE_HOME to a temporary folder where the user has none that can be written.

    Libraries keep caches below them, and W&B's server writes its log to the terminal where it finds no folder for it.
    """
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and the user id has no name
        home = Path("/nonexistent")
    if "HOME" not in os.environ and home.is_dir():
        os.environ["HOME"] = str(home)
    if "XDG_CACHE_HOME" in os.environ or _can_be_made(home / ".cache"):
        return
    folder = Path(tempfile.gettempdir()) / f"r1exp-cache-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():  # made by someone else
        folder = Path(tempfile.mkdtemp(prefix="r1exp-cache-"))
    os.environ["XDG_CACHE_HOME"] = str(folder)
    os.environ.setdefault("WANDB_CONFIG_DIR", str(folder / "wandb-config"))
    os.environ.setdefault(
        "TORCHINDUCTOR_CACHE_DIR", str(folder / "torchinductor")
    )  # else it needs the user's name
    if not home.is_dir():
        os.environ["HOME"] = str(folder)


def _can_be_made(folder: Path) -> bool:
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        Refused: it is no JSON, although r1exp wrote it whole: it was changed or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Refused(
            f"{path} is damaged, it is no JSON ({error}); restore it, or remove its folder"
        ) from error


def read_object(path: Path, key: str) -> dict[str, Any]:
    """Return the content of a JSON file that a setting leads to, which must be an object.

    Args:
        path: The file.
        key: The setting, for messages.

    Raises:
        Refused: the file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Refused(f"{key}: {path} cannot be read ({reason}); copy the folder again") from error
    if not isinstance(content, dict):
        raise Refused(f"{key}: {path} holds no JSON object; copy the folder again")
    return content


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that is renamed to `target` when the block ends, and deleted when it raises.

    Its files are on the disk before it has its name, so that after a power cut it is whole or not there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield unfinished
        unfinished.chmod(0o755)  # mkdtemp makes it readable for its owner only
        for path in unfinished.rglob("*"):
            if path.is_file():
                sync_file(path)
        sync_folders(unfinished)
        unfinished.rename(target)
        sync_file(target.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def link_tree(source: Path, target: Path, without: Sequence[str] = ()) -> None:
    """Copy the folder `source` to `target` atomically, with hard links if the file system supports them.

    Hard links are safe because r1exp changes no file in place.

    Args:
        source: An existing folder.
        target: Must not exist yet.
        without: Names of files and folders that are left out, at any depth.
    """
    with whole_folder(target) as unfinished:
        ignore = shutil.ignore_patterns(*without) if without else None
        shutil.copytree(source, unfinished, copy_function=_link_or_copy, dirs_exist_ok=True, ignore=ignore)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def make_read_only(folder: Path) -> None:
    """Remove the permission to write from all files below `folder`.

    They may be hard links to files of other runs, so that an edit in place would change those too.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode & ~0o222)


def hash_of(value: Any) -> str:
    """Return a short content hash (16 hex digits of SHA-256) of a JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_of_file(path: Path) -> str:
    """Return 16 hex digits of the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def hash_of_folder(folder: Path) -> str:
    """Return a hash of the names and contents of all files below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hash_of([[str(path.relative_to(folder)), hash_of_file(path)] for path in files])
