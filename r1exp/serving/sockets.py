"""A private folder for the sockets over which the processes of one vLLM server talk, removed with the server.

vLLM 0.31 makes about seven of them in the folder for temporary files (VLLM_RPC_BASE_PATH), and leaves them. Messages on
them may hold pickles, so that only this user may connect. The name follows from the step's folder: what a killed
supervisor left is removed at the next start. It is short, because the path of a socket has at most 107 bytes.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

VARIABLE = "VLLM_RPC_BASE_PATH"


def folder_of(step: Path) -> Path:
    """Return the folder for the sockets of the server of a step on this machine, which may not exist."""
    name = hashlib.sha256(str(step.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"r1exp-{os.getuid()}-{name}"


def make(step: Path) -> Path:
    """Make the folder, empty, and return it.

    Raises:
        OSError: another user has a folder of that name.
    """
    remove(step)
    folder = folder_of(step)
    folder.mkdir(mode=0o700)
    return folder


def remove(step: Path) -> None:
    """Remove the folder and what is in it, if it exists."""
    shutil.rmtree(folder_of(step), ignore_errors=True)
