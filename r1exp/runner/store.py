"""Shares finished steps between runs and the members of a sweep, so that the same SFT is trained once.

    <store>/steps/<key>/        the folder of a finished step, without checkpoints (hard links use no space)
    <store>/leases/<key>.lock   held by the process that executes the step
    <store>/leases/<key>.where  the folder in which it is executed: a later run takes its checkpoints from there

The lock is a kernel lock (flock), which is released when its process is killed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from r1exp.errors import Refused
from r1exp.files import link_tree, write_text
from r1exp.paths import StepPaths, StorePaths
from r1exp.step.status import read_status


def is_leased(store: Path, key: str) -> bool:
    """Whether a process is executing the step `key`."""
    path = StorePaths(store).lock(key)
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
    """A folder with finished steps, each under its key."""

    def __init__(self, folder: Path) -> None:
        self.paths = StorePaths(folder)
        try:
            self.paths.steps.mkdir(parents=True, exist_ok=True)
            self.paths.leases.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(
                f"the step store {folder} cannot be written ({error.strerror}); set paths.store=..."
            ) from error

    def find(self, key: str) -> Path | None:
        """Return the folder of the finished step `key`, or None."""
        folder = self.paths.steps / key
        return folder if folder.is_dir() else None

    def publish(self, key: str, folder: Path) -> None:
        """Make the finished step in `folder` available under its key."""
        if self.find(key) is None:
            link_tree(folder, self.paths.steps / key, without=(StepPaths(folder).checkpoints.name,))

    @contextmanager
    def lease(self, key: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Lock the step while it is executed; wait while another process has locked it.

        Args:
            key: Key of the step.
            on_wait: Called once if another process has locked the step.
        """
        lock = FileLock(self.paths.lock(key))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def write_working_directory(self, key: str, folder: Path) -> None:
        """Write the folder in which the step is executed, for a later run that continues it."""
        write_text(self.paths.working_directory(key), str(folder.resolve()))

    def take_checkpoints(self, key: str, folder: Path) -> bool:
        """Link the checkpoints of an unfinished execution of the step into `folder`; return whether there were any."""
        note = self.paths.working_directory(key)
        if not note.exists():
            return False
        earlier = Path(note.read_text(encoding="utf-8"))
        status = read_status(earlier) if earlier.is_dir() else None
        unfinished = status is not None and status.state != "done"
        if not unfinished or earlier == folder.resolve() or not StepPaths(earlier).checkpoints.is_dir():
            return False
        link_tree(StepPaths(earlier).checkpoints, StepPaths(folder).checkpoints)
        return True
