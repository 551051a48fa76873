"""Writes files and folders atomically: under a temporary name, which is then renamed.

Permissions follow from the user's umask and the group from the folder (setgid), so that a group can share a store. A
temporary file is locked while its writer lives; `remove_abandoned` deletes those of killed processes.
"""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from r1exp.errors import Refused

_NO_SPACE = "no space left on the disk"
_TEMPORARY = ".tmp"  # the end of the name of a temporary file or folder, which begins with a dot
_ATTEMPTS = 10  # to make a temporary file that nobody removes before it is locked


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically; a reader never sees a partial file, also after a crash."""
    with _written(path, text) as temporary:
        temporary.replace(path)


def create_text(path: Path, text: str) -> bool:
    """Write `text` to `path` atomically if there is no such file; return whether there was none.

    Of several processes that do so at once, one succeeds.
    """
    with _written(path, text) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            if path.exists():
                return False
            temporary.replace(path)
    return True


@contextmanager
def _written(path: Path, text: str) -> Iterator[Path]:
    """Yield a temporary file next to `path` that holds `text`, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path, is_folder=False) as (temporary, handle):
        with open(handle, "w", encoding="utf-8", closefd=False) as file:
            file.write(text)
        os.fsync(handle)
        yield temporary


@contextmanager
def _temporary(target: Path, *, is_folder: bool) -> Iterator[tuple[Path, int]]:
    """Yield an empty file or folder next to `target` with a locked descriptor; it is removed if it was not renamed."""
    path, handle = _locked(target, is_folder)
    try:
        yield path, handle
    finally:
        _remove(path)
        os.close(handle)


def _locked(target: Path, is_folder: bool) -> tuple[Path, int]:
    for _ in range(_ATTEMPTS):
        path = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_TEMPORARY}")
        flags = os.O_RDONLY | os.O_DIRECTORY if is_folder else os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            if is_folder:
                path.mkdir()
            handle = os.open(path, flags, 0o666)
        except FileExistsError:
            continue
        except FileNotFoundError:  # removed before it was opened
            if path.parent.is_dir():
                continue
            raise
        with suppress(OSError):  # a file system without locks: its abandoned files stay
            fcntl.flock(handle, fcntl.LOCK_EX)
        if path.exists():  # else it was removed before it was locked
            return path, handle
        os.close(handle)
    raise OSError(errno.EEXIST, "no temporary file can be made", str(target.parent))


def remove_abandoned(folder: Path) -> None:
    """Delete the temporary files and folders that killed processes left in `folder`; not those of living ones."""
    for path in folder.glob(f".*{_TEMPORARY}"):
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def follow_folder(folder: Path) -> None:
    """Give what is below `folder` its group and the permissions of a file that is made there.

    Libraries make some files readable for their owner only (safetensors). Files that are read-only, or that another user
    or another folder has too, are left as they are.
    """
    for parent, folders, files in os.walk(folder):
        above = Path(parent).stat()
        permissions = stat.S_IMODE(above.st_mode)
        for name in (*folders, *files):
            path = Path(parent, name)
            try:
                about = path.lstat()
            except FileNotFoundError:  # another rank renamed it
                continue
            is_folder = stat.S_ISDIR(about.st_mode)
            is_own_file = stat.S_ISREG(about.st_mode) and about.st_nlink == 1 and about.st_mode & stat.S_IWUSR
            if about.st_uid != os.geteuid() or not (is_folder or is_own_file):
                continue
            if above.st_mode & stat.S_ISGID and about.st_gid != above.st_gid:
                with suppress(PermissionError):
                    os.chown(path, -1, above.st_gid)
            wanted = permissions if is_folder else permissions & (0o666 | about.st_mode & 0o111)
            if stat.S_IMODE(about.st_mode) != wanted:
                path.chmod(wanted)


def is_no_space(error: BaseException | str) -> bool:
    """Whether an error, or the text of one, says that a disk is full or a quota is used up."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    texts = (_NO_SPACE, *(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)))
    return any(text in str(error) for text in texts)


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
    if not is_no_space(error):
        return f"{place}: {error.strerror or error}"
    return no_space_at(place)


def no_space_at(place: Path) -> str:
    """Return the message that the disk of `place` is full."""
    space = shutil.disk_usage(existing(place))
    return (
        f"{place}: {_NO_SPACE} ({space.free / 1e6:.1f} MB of {space.total / 1e6:.0f} MB are free); free some, "
        "or write to another disk with paths.runs=DIR"
    )


def existing(place: Path) -> Path:
    """Return `place`, or the nearest folder above it that exists."""
    return next((path for path in (place, *place.absolute().parents) if path.exists()), Path("/"))


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
    write_text(path, json_text(value))


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write a JSON value per line, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def json_text(value: Any) -> str:
    """Return `value` as the text of a JSON file.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


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


def read_json_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of sweep.json if it is there and whole, else none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return (
        [row for row in content if isinstance(row, dict) and "member" in row]
        if isinstance(content, list)
        else []
    )


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file of r1exp if it is there and whole, else an empty dictionary."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


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
def whole_folder(target: Path, *, replaces: bool = False) -> Iterator[Path]:
    """Yield an empty folder that is renamed to `target` when the block ends, and deleted when it raises.

    Its files are on the disk before it has its name, so that after a power cut it is whole or not there.

    Args:
        target: Must not exist, or be empty.
        replaces: An existing `target` is replaced. A process that is killed meanwhile leaves the old one, none, or the new one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(target, is_folder=True) as (unfinished, _):
        yield unfinished
        follow_folder(unfinished)
        for path in unfinished.rglob("*"):
            if path.is_file():
                sync_file(path)
        sync_folders(unfinished)
        if replaces and target.exists():
            with _temporary(target, is_folder=True) as (aside, _):
                target.rename(aside)
                unfinished.rename(target)
        else:
            unfinished.rename(target)
        sync_file(target.parent)


def link_tree(source: Path, target: Path, without: Sequence[str] = ()) -> None:
    """Copy the folder `source` to `target` atomically, with hard links if the file system supports them.

    Hard links are safe because r1exp changes no file in place.

    Args:
        source: An existing folder.
        target: Must not exist yet.
        without: Names of files and folders that are left out, at any depth.
    """
    with whole_folder(target) as unfinished:
        link_into(source, unfinished, without)


def link_into(source: Path, target: Path, without: Sequence[str] = ()) -> None:
    """Add what is in the folder `source` to the folder `target`, as `link_tree` does; not atomic.

    Folders that are made have the permissions and the group of `target`, not those of the other user's folder.
    """
    for path in source.iterdir():
        if path.name in without:
            continue
        if path.is_dir():
            (target / path.name).mkdir(exist_ok=True)
            link_into(path, target / path.name, without)
        else:
            _link_or_copy(str(path), str(target / path.name))


def copy_file(source: Path, target: Path) -> None:
    """Copy a file atomically, with the permissions and the group of a file that is made there."""
    with _temporary(target, is_folder=False) as (temporary, handle), source.open("rb") as original:
        with open(handle, "wb", closefd=False) as copy:
            shutil.copyfileobj(original, copy)
        temporary.replace(target)


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
