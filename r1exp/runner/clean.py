"""Finds what no run needs of the step store, and frees it: `r1exp clean`.

A run has the files of its finished steps itself, as hard links to those in the store (or as copies, where the store is on
another file system). No run needs a finished step in the store if no run below the folder of all runs plans a step with its key
and no file of it is linked from elsewhere, and so also not from the runs of others who share the store. Models that
r1exp built or merged stay, because adapters name them as their base.
"""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from r1exp.errors import Refused
from r1exp.files import read_json_object, remove_abandoned
from r1exp.paths import RunPaths, StorePaths
from r1exp.runner.manifest import texts_in
from r1exp.runner.run_list import in_one_unit, runs_below
from r1exp.runner.store import is_leased
from r1exp.step.status import read_status
from r1exp.terminal import aligned

_STORE = ".store"  # as paths.store is by default, below the folder of all runs
_REMOVED = ".removed-"


@dataclass(frozen=True)
class StoredStep:
    """A finished step in the store."""

    folder: Path
    kind: str  # of its artifact
    age: float  # seconds since it was made
    num_bytes: int  # of files that are nowhere else: what removing it frees
    is_needed: bool


def clean(runs: Path, store: Path | None = None, *, frees: bool = False) -> str:
    """Return a table of what no run needs of the step store.

    Args:
        runs: Folder of all runs.
        store: The step store; None: `runs/.store`.
        frees: Whether it is removed.

    Raises:
        Refused: there is no store, or a step of it is being executed.
    """
    paths = StorePaths(runs / _STORE if store is None else store)
    if not paths.steps.is_dir():
        raise Refused(
            f"{paths.folder}: there is no step store; name the folder of all runs, or the one that paths.store names: "
            "r1exp clean DIR store=DIR"
        )
    if frees and (busy := _executed(paths)):
        raise Refused(
            f"a run is using the step store {paths.folder} (it executes {busy}); type this again when it has ended"
        )
    steps = list(_stored_steps(runs, paths))
    unneeded = [step for step in steps if not step.is_needed]
    rows = [("finished step", "makes", "age", "frees")]
    rows += [
        (step.folder.name, step.kind, in_one_unit(step.age), _megabytes(step.num_bytes)) for step in unneeded
    ]
    lines = aligned(rows) if unneeded else []
    total = _megabytes(sum(step.num_bytes for step in unneeded))
    lines.append(f"{paths.folder}: {len(steps)} finished steps, {len(unneeded)} of them needed by no run")
    if frees:
        remove_abandoned(paths.steps)
        for aside in paths.steps.glob(f"{_REMOVED}*"):  # of a command that was killed
            shutil.rmtree(aside)
        for step in unneeded:
            _remove(step.folder)
        lines.append(f"freed {total}")
    elif unneeded:
        lines.append(f"`r1exp clean {runs}{'' if store is None else f' store={store}'} --free` frees {total}")
    return "\n".join(lines) + "\n"


def _stored_steps(runs: Path, paths: StorePaths) -> Iterator[StoredStep]:
    planned = set(_planned_keys(runs))
    now = time.time()
    for folder in sorted(paths.steps.glob("[!.]*")):
        files = [path.stat() for path in folder.rglob("*") if path.is_file()]
        status = read_status(folder)
        yield StoredStep(
            folder=folder,
            kind="-" if status is None or status.artifact is None else status.artifact.kind,
            age=max(0.0, now - folder.stat().st_mtime),
            num_bytes=sum(file.st_size for file in files if file.st_nlink == 1),
            is_needed=_key(folder) in planned or any(file.st_nlink > 1 for file in files),
        )


def _planned_keys(runs: Path) -> Iterator[str]:
    """Yield the keys of the steps of all runs, of the members of sweeps too."""
    for run in runs_below(runs):
        members = [run.folder] if RunPaths(run.folder).manifest.is_file() else sorted(run.folder.iterdir())
        for member in members:
            yield from texts_in(read_json_object(RunPaths(member).manifest), "step_keys")


def _key(folder: Path) -> str:
    """Return the key of a folder of the store, `<key>-<variant>` or `<key>-<variant>.changed-<n>`."""
    return folder.name.partition("-")[0]


def _executed(paths: StorePaths) -> str | None:
    """Return the key of a step that is being executed, or None."""
    return next(
        (lock.stem for lock in paths.leases.glob("*.lock") if is_leased(paths.folder, lock.stem)), None
    )


def _remove(folder: Path) -> None:
    """Remove the folder of a step, so that nobody finds a part of it."""
    aside = folder.with_name(_REMOVED + folder.name)
    folder.rename(aside)
    shutil.rmtree(aside)


def _megabytes(num_bytes: float) -> str:
    """Return a size for a table: `12.3 MB`."""
    return f"{num_bytes / 1e6:.1f} MB"
