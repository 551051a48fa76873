"""Checks DeepSpeed's compiled extensions, and refuses to start where an abandoned lock would block them for ever.

DeepSpeed 0.19 compiles its extensions at its first start (on a CPU `deepspeed_shm_comm`, which takes a minute; with
offload also `cpu_adam`) into the torch extensions folder, under a lock file. A compilation that is killed leaves the
lock, and torch 2.13 then waits for it for ever without a message. Torch-free except for `compile_now`.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil

from r1exp.errors import Refused

COMPILED = "deepspeed_shm_comm"  # communication between CPU ranks
_LOCK = "lock"


def extensions_folder() -> Path:
    """Return the folder in which torch looks for compiled extensions."""
    configured = os.environ.get("TORCH_EXTENSIONS_DIR")
    if configured:
        return Path(configured)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "torch_extensions"


def is_compiled() -> bool:
    """Whether the extension through which CPU ranks communicate has been compiled on this machine."""
    return any(extensions_folder().glob(f"**/{COMPILED}/{COMPILED}.so"))


def abandoned_locks() -> list[Path]:
    """Return the locks that no process on this machine holds, which killed compilations have left."""
    locks = [path for path in extensions_folder().glob(f"**/{_LOCK}") if path.is_file()]
    return [] if not locks else [path for path in locks if not _is_held(path)]


def refuse_without_deepspeed(kind: str) -> None:
    """Raise Refused if DeepSpeed is not installed, or would wait for an abandoned lock for ever.

    Args:
        kind: The launcher, for the message.
    """
    if find_spec("deepspeed") is None:
        raise Refused(
            f"launcher={kind} needs DeepSpeed, which is not installed; type: pip install 'r1exp[deepspeed]', "
            "or launcher=ddp"
        )
    found = abandoned_locks()
    if found:
        raise Refused(
            f"{found[0]} was left by a compilation of DeepSpeed that was killed, and DeepSpeed would wait for it for "
            f"ever; type: rm -r {found[0].parent}"
        )


def compile_now() -> None:
    """Compile the communication of CPU ranks ahead of the first step: `python -m r1exp.launcher.extensions`."""
    from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder  # an optional extra, which imports torch

    find_ninja()
    ShareMemCommBuilder().load(verbose=False)


def find_ninja() -> None:
    """Add the folder of Python to PATH, so that torch finds the ninja that is installed there."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _is_held(lock: Path) -> bool:
    """Whether a process has the lock open; torch keeps it open while it compiles."""
    for process in psutil.process_iter():
        try:
            if any(Path(file.path) == lock.resolve() for file in process.open_files()):
                return True
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return False


if __name__ == "__main__":
    compile_now()
