"""Judges a place that has come to its end: every run done, every artifact as in the undisturbed run, nothing left."""

import fcntl
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from soaking.census import Census, listening
from soaking.place import Place

_SHM = Path("/dev/shm")
_CACHES = ("torchinductor_",)  # one folder for each user, which torch keeps and uses again
Artifacts = dict[str, str]  # path of a file below the place -> its hash


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a place at its end; nothing, if all is well."""

    faults: tuple[str, ...]
    artifacts: Artifacts


def artifacts(folder: Path) -> Artifacts:
    """Return the hash of each file of each artifact below a place."""
    files = [path for path in folder.glob("run*/**/artifact/**/*") if path.is_file()]
    files += [path for path in folder.glob("sweep/**/artifact/**/*") if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(files)
        if ".store" not in path.parts
    }


def judge(place: Place, census: Census, expected: Artifacts | None) -> Verdict:
    """Return the verdict on a place whose commands have all ended with exit code 0.

    Args:
        place: The place.
        census: Finds what is left.
        expected: The artifacts of the undisturbed run; None: this is it.
    """
    faults = [f"{kind} ran on for {place.leaves:g} s after its command" for kind in place.outlived]
    faults += place.unexpected
    faults += _states(place.folder)
    found = artifacts(place.folder)
    if not found:
        faults.append("no artifact")
    if expected is not None:
        differing = sorted(
            name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
        )
        faults += [f"{name} differs from the undisturbed run" for name in differing[:4]]
    faults += _left(place, census)
    return Verdict(tuple(faults), found)


def _states(folder: Path) -> list[str]:
    faults = []
    summaries = [*folder.glob("run*/summary.json"), *folder.glob("sweep/*/summary.json")]
    for path in summaries:
        state = json.loads(path.read_text())["state"]
        if state != "done":
            faults.append(f"{path.parent.relative_to(folder)} is {state}")
    return faults if summaries else ["no run has a summary"]


def _left(place: Place, census: Census) -> list[str]:
    """Return what is left of a place some seconds after its end: processes, ports, leases, temporary files."""
    end = time.monotonic() + place.leaves
    tokens = [command.token for command in place.commands]
    while any(census.alive(token) for token in tokens) and time.monotonic() < end:
        time.sleep(0.2)
        census.update()
    left = [process for token in tokens for process in census.alive(token)]
    faults = [f"{process.kind()} is left" for process in left]
    faults += [f"port {port} is left" for port in listening(left)]
    faults += [
        f"lease {path.name} is left" for path in place.folder.glob("**/leases/*.lock") if _is_locked(path)
    ]
    temporary = [path.name for path in (place.folder / "tmp").iterdir() if not path.name.startswith(_CACHES)]
    return faults + [f"temporary file {name} is left" for name in sorted(temporary)[:4]]


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def shared_memory() -> set[str]:
    """Return the names of this user's segments in /dev/shm."""
    found = set()
    for path in _SHM.iterdir():
        try:
            if path.stat().st_uid == os.getuid():
                found.add(path.name)
        except OSError:
            continue
    return found
