"""Finished steps, shared by runs and by the members of a sweep, so that the same SFT is trained once.

    <store>/steps/<key>/        the folder of a finished step, without checkpoints (hard links: no disk)
    <store>/leases/<key>.lock   held by the process that is working on the step
    <store>/leases/<key>.where  the folder in which it works: a later run takes its checkpoints from there

The lock is the kernel's (flock): `kill -9` frees it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from r1exp.errors import Refused
from r1exp.files import link_tree, write_text
from r1exp.step.status import read_status

CHECKPOINTS = "checkpoints"


def is_leased(store: Path, key: str) -> bool:
    """Whether a process is working on the step `key`."""
    path = store / "leases" / f"{key}.lock"
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


class StepStore:
    """A folder of finished steps under their keys."""

    def __init__(self, folder: Path) -> None:
        self._steps = folder / "steps"
        self._leases = folder / "leases"
        try:
            self._steps.mkdir(parents=True, exist_ok=True)
            self._leases.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(
                f"the step store {folder} cannot be written ({error.strerror}); set paths.store=..."
            ) from error

    def find(self, key: str) -> Path | None:
        """Return the folder of the finished step `key`, or None."""
        folder = self._steps / key
        return folder if folder.is_dir() else None

    def publish(self, key: str, folder: Path) -> None:
        """Make the finished step in `folder` available under its key."""
        if self.find(key) is None:
            link_tree(folder, self._steps / key, without=(CHECKPOINTS,))

    @contextmanager
    def lease(self, key: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold the step while working on it; wait for whoever holds it now.

        Args:
            key: The step.
            on_wait: Called once if another process holds the step.
        """
        lock = FileLock(self._leases / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def note_workplace(self, key: str, folder: Path) -> None:
        """Remember where the step is being worked on, for a run that finds it unfinished."""
        write_text(self._leases / f"{key}.where", str(folder.resolve()))

    def take_checkpoints(self, key: str, folder: Path) -> bool:
        """Link the checkpoints of an unfinished attempt at the step into `folder`; False if there are none."""
        note = self._leases / f"{key}.where"
        if not note.exists():
            return False
        earlier = Path(note.read_text(encoding="utf-8"))
        status = read_status(earlier) if earlier.is_dir() else None
        unfinished = status is not None and status.state != "done"
        if not unfinished or earlier == folder.resolve() or not (earlier / CHECKPOINTS).is_dir():
            return False
        link_tree(earlier / CHECKPOINTS, folder / CHECKPOINTS)
        return True
