"""Shares finished steps between runs and the members of a sweep, so that the same SFT is trained once.

    <store>/steps/<key>/        the folder of a finished step, without checkpoints (hard links use no space)
    <store>/leases/<key>.lock   held by the process that executes the step
    <store>/leases/<key>.where  the folder in which it is executed: a later run takes its checkpoints from there

The lock is a kernel lock (flock), which is released when its process is killed.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from r1exp.errors import Refused
from r1exp.files import link_tree, write_text
from r1exp.paths import StepPaths, StorePaths
from r1exp.step.status import Status, is_changed, read_status
from r1exp.terminal import say


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
    """A folder with finished steps, each under both parts of its key (`RunPlan.slot`)."""

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
        """Return the folder of the finished step `key`, or None.

        A step whose artifact was changed after it finished is renamed to `<key>.changed-N`, and not returned.
        """
        folder = self.paths.steps / key
        if not folder.is_dir():
            return None
        if not is_changed(folder):
            return folder
        number = 1
        while (aside := folder.with_name(f"{key}.changed-{number}")).exists():
            number += 1
        folder.rename(aside)
        say(
            f"{aside}: the artifact of this finished step was changed after it was made; the step is computed again"
        )
        return None

    def find_other(self, key: str) -> Path | None:
        """Return the folder of a finished step with this key and other numerics, or None."""
        slots = sorted(path.name for path in self.paths.steps.glob(f"{key}-*") if "." not in path.name)
        return next((found for slot in slots if (found := self.find(slot)) is not None), None)

    def stopped(self, key: str) -> Status | None:
        """Return the status of the step `key` if a health rule stopped its last execution, else None."""
        earlier = self._last_execution(key)
        status = None if earlier is None else read_status(earlier)
        return status if status is not None and status.state == "stopped" else None

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
        """Link the checkpoints of an unfinished execution of the step into `folder`; return whether there were any.

        What it logged until then is copied, because the file is continued.
        """
        earlier = self._last_execution(key)
        status = None if earlier is None else read_status(earlier)
        if earlier is None or status is None or status.state == "done" or earlier == folder.resolve():
            return False
        theirs, ours = StepPaths(earlier), StepPaths(folder)
        if not theirs.checkpoints.is_dir():
            return False
        for source, target in ((theirs.metrics, ours.metrics), (theirs.health_log, ours.health_log)):
            if source.exists():
                shutil.copyfile(source, target)
        link_tree(theirs.checkpoints, ours.checkpoints)
        return True

    def _last_execution(self, key: str) -> Path | None:
        """Return the folder in which the step was last executed, if it still exists."""
        note = self.paths.working_directory(key)
        if not note.exists():
            return None
        folder = Path(note.read_text(encoding="utf-8"))
        return folder if folder.is_dir() else None
