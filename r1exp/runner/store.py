"""Shares finished steps between runs and the members of a sweep, so that the same SFT is trained once.

    <store>/steps/<key>/        the folder of a finished step, without checkpoints (hard links use no space)
    <store>/leases/<key>.lock   held by the process that executes the step
    <store>/leases/<key>.where  the folders in which it was executed, newest last

The lock is a kernel lock (flock), which is released when its process is killed. Checkpoints stay in the folder of the
run that wrote them. The run that holds the lock goes on from the newest checkpoint of all these folders: it links it
into its own folder first, so that one run at a time writes and each of them can go on from what the others did. Each
link is one rename, in an order in which a killed process leaves nothing that the next one cannot use.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from r1exp.errors import Refused, StepFailed
from r1exp.files import copy_file, link_tree, remove_abandoned
from r1exp.paths import CheckpointPaths, StepPaths, StorePaths
from r1exp.step.checkpoints import last_checkpoint, remove_incomplete
from r1exp.step.executions import executions, note_execution
from r1exp.step.ranks import wait_for_ranks
from r1exp.step.status import Status, is_finished, read_status
from r1exp.terminal import say

_RANKS_PATIENCE = 60.0  # seconds that ranks get to notice that their parent was killed


def is_leased(store: Path, key: str) -> bool:
    """Whether a process is executing the step `key`."""
    try:
        handle = os.open(StorePaths(store).lock(key), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(handle)
    return False


class StepStore:
    """A folder with finished steps, each under both parts of its key (`RunPlan.slot`).

    A store that can be read and not written serves finished steps; what its runs execute is not shared.
    """

    def __init__(self, folder: Path) -> None:
        self.paths = StorePaths(folder)
        self.is_writable = True
        try:
            for place in (self.paths.steps, self.paths.leases):
                place.mkdir(parents=True, exist_ok=True)
                self.is_writable &= os.access(place, os.W_OK)
        except OSError as error:
            if not self.paths.steps.is_dir():
                raise Refused(
                    f"the step store {folder} cannot be written ({error.strerror}); set paths.store=..."
                ) from error
            self.is_writable = False
        if not self.is_writable:
            say(
                f"the step store {folder} cannot be written: its finished steps are reused, and those of this run are not "
                "shared; paths.store=DIR names another one"
            )

    def find(self, key: str) -> Path | None:
        """Return the folder of the finished step `key`, or None.

        A step whose artifact was changed after it finished is renamed to `<key>.changed-N`, and not returned.
        """
        folder = self.paths.steps / key
        try:
            if not folder.is_dir():
                return None
            if is_finished(folder):
                return folder
        except PermissionError as error:
            say(
                f"{error.filename}: this finished step cannot be read ({error.strerror}); it is computed again"
            )
            return None
        self._put_aside(folder)
        return None

    def _put_aside(self, folder: Path) -> None:
        number = 1
        while (aside := folder.with_name(f"{folder.name}.changed-{number}")).exists():
            number += 1
        try:
            folder.rename(aside)
        except OSError:  # a store of somebody else
            aside = folder
        say(
            f"{aside}: the artifact of this finished step was changed after it was made; the step is computed again"
        )

    def find_other(self, key: str) -> Path | None:
        """Return the folder of a finished step with this key and other numerics, or None."""
        slots = sorted(path.name for path in self.paths.steps.glob(f"{key}-*") if "." not in path.name)
        return next((found for slot in slots if (found := self.find(slot)) is not None), None)

    def find_unpublished(self, key: str) -> Path | None:
        """Return the folder of a run that finished the step `key` and was killed before it shared it, or None.

        The step is shared now.
        """
        found = next((folder for folder in reversed(self._executions(key)) if is_finished(folder)), None)
        if found is not None:
            self.publish(key, found)
        return found

    def stopped(self, key: str) -> Status | None:
        """Return the status of the step `key` if a health rule stopped its last execution, else None."""
        earlier = self._executions(key)
        status = read_status(earlier[-1]) if earlier else None
        return status if status is not None and status.state == "stopped" else None

    def publish(self, key: str, folder: Path) -> None:
        """Make the finished step in `folder` available under its key; a store that cannot take it is said and no error."""
        target = self.paths.steps / key
        if not self.is_writable or is_finished(target):
            return
        try:
            if self.find(key) is None:
                link_tree(folder, target, without=StepPaths(folder).not_shared)
        except OSError as error:
            say(f"{folder}: the finished step is not in the store ({target}: {error.strerror})")

    @contextmanager
    def lease(self, key: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Lock the step while it is executed; wait while another process has locked it.

        Args:
            key: Key of the step.
            on_wait: Called once if another process has locked the step.

        Raises:
            Refused: the lock file belongs to a user who does not share it.
        """
        if not self.is_writable:
            yield
            return
        mode = self.paths.leases.stat().st_mode & 0o666  # those who may make a lease may also take it over
        lock = FileLock(self.paths.lock(key), mode=mode)
        try:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                on_wait()
                lock.acquire()
        except PermissionError as error:
            raise Refused(
                f"{self.paths.lock(key)} belongs to another user and cannot be locked; its owner types chmod g+w for it, "
                "or set paths.store=DIR"
            ) from error
        try:
            for place in (self.paths.steps, self.paths.leases):
                remove_abandoned(place)
            yield
        finally:
            lock.release()

    def take_over(self, key: str, folder: Path) -> None:
        """Make `folder` the place in which the step is executed, with the newest checkpoint of all its executions.

        Before that, the ranks of a killed execution have ended. What was logged until that checkpoint is copied, because
        the files are continued. Needs the lease.

        Raises:
            StepFailed: ranks of a killed execution do not end.
        """
        own = folder.resolve()
        earlier = self._executions(key)
        for place in {*earlier, own}:
            if not wait_for_ranks(place, _RANKS_PATIENCE):
                raise StepFailed(
                    f"processes of an execution that was killed still run in {place}; end them "
                    f"(pgrep -af 'r1exp.worker {place}'), then type the same command again"
                )
        _clean(folder)
        if not self.is_writable:  # without a lease nobody's checkpoints may be read
            return
        # Of those that are equally far the newest: it began with what the others had.
        source = max((*reversed(earlier), own), key=_num_steps_saved)
        if source != own:
            continue_from(source, folder)
        note_execution(self.paths.working_directory(key), folder)

    def _executions(self, key: str) -> list[Path]:
        return executions(self.paths.working_directory(key))


def _clean(folder: Path) -> None:
    """Delete what killed ranks left unfinished in the folder of a step."""
    paths = StepPaths(folder)
    for place in (folder, paths.checkpoints, paths.completions):
        remove_abandoned(place)
    for rows in paths.temporary_rows():
        shutil.rmtree(rows, ignore_errors=True)
    if paths.artifact.exists():  # the process that wrote it was killed before the step was done
        shutil.rmtree(paths.artifact)
    remove_incomplete(folder)


def _num_steps_saved(folder: Path) -> int:
    """Return the optimizer steps of the last checkpoint of an unfinished execution; 0 without one, -1 if it finished."""
    status = read_status(folder)
    if status is not None and status.state == "done":
        return -1
    checkpoint = last_checkpoint(folder)
    return 0 if checkpoint is None else CheckpointPaths(checkpoint).global_step


def continue_from(source: Path, folder: Path) -> None:
    """Copy what an execution logged, then link its checkpoints, which the logs reach at least."""
    theirs, ours = StepPaths(source), StepPaths(folder)
    # The newest execution began with the kept rows of the others.
    for log in (*theirs.continued_files(), *theirs.all_kept_rows()):
        target = folder / log.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_file(log, target)
    known = {paths.folder.name for paths in ours.all_checkpoints()}
    for paths in theirs.all_checkpoints():
        if paths.mark.exists() and paths.folder.name not in known:
            link_tree(paths.folder, ours.checkpoints / paths.folder.name)
