"""A folder for the temporary files of a step's processes, removed with them: killed libraries leave theirs (W&B, torch, vLLM).

The name follows from the step's folder, so that what a killed parent left is removed when the same command is typed again.
"""

import getpass
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def scratch(step: Path) -> Iterator[dict[str, str]]:
    """Yield the environment variables with which processes use a folder of their own for temporary files.

    Compiled kernels, which torch keeps there for later runs, stay where they are. Without variables where a job has several nodes,
    on which the folder does not exist, or where it cannot be made.
    """
    folder = _folder(step)
    environment: dict[str, str] = {}
    remove(step)
    if os.environ.get("SLURM_JOB_NUM_NODES", "1") == "1":
        with suppress(OSError):  # a full disk, or another user's folder of that name
            folder.mkdir(mode=0o700)
            environment = {"TMPDIR": str(folder)}
    if environment:
        environment |= keep_kernels(folder)
    try:
        yield environment
    finally:
        remove(step)


@contextmanager
def own_scratch(folder: Path) -> Iterator[None]:
    """Let libraries in this process use a folder for temporary files that is removed at the end, or when it is used again."""
    with scratch(folder) as environment:
        before = tempfile.tempdir
        tempfile.tempdir = environment.get("TMPDIR", before)
        try:
            yield
        finally:
            tempfile.tempdir = before


def keep_kernels(folder: Path) -> dict[str, str]:
    """Keep what torch compiles where it is for other processes, although `folder` is the one for temporary files.

    Args:
        folder: The folder that processes get as TMPDIR. A link in it leads to torch's folder: compiled headers, which take
            seconds, are looked for below TMPDIR whatever the variable says (torch 2.13).

    Returns:
        A variable for these processes; none where the user has set it.
    """
    with suppress(OSError, KeyError):  # a user without a name
        kept = Path(tempfile.gettempdir()) / f"torchinductor_{getpass.getuser()}"
        kept.mkdir(mode=0o700, exist_ok=True)
        (folder / kept.name).symlink_to(kept)
        if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
            return {"TORCHINDUCTOR_CACHE_DIR": str(kept)}
    return {}


def remove(step: Path) -> None:
    """Remove the folder of a step that nothing executes, if it exists: what a killed parent left."""
    shutil.rmtree(_folder(step), ignore_errors=True)


def _folder(step: Path) -> Path:
    name = hashlib.sha256(str(step.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"r1exp-{os.getuid()}-{name}-step"
