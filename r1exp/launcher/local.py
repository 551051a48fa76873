"""One process on this machine, without accelerate's launcher, which takes more than a second to import torch."""

from pathlib import Path
from typing import ClassVar, Literal

from r1exp.launcher.base import Device, Launcher


class Local(Launcher):
    """One process."""

    kind: Literal["local"]
    num_processes: Literal[1]  # one process; launcher=ddp runs several
    can_fork: ClassVar[bool] = True

    def command(self, folder: Path, accelerate: list[str], worker: list[str]) -> list[str]:
        """Return the command of the worker alone."""
        return super().command(folder, [], worker)

    def files(self, folder: Path, device: Device) -> dict[str, str]:
        """Return no files: the environment states what accelerate reads."""
        del folder, device
        return {}

    def _environment(self, device: Device) -> dict[str, str]:
        # As accelerate 1.15's launcher sets them for one process; only its KMP_* (Intel's OpenMP) are left out.
        return super()._environment(device) | {
            "ACCELERATE_USE_CPU": "True" if device == "cpu" else "False",
            "ACCELERATE_MIXED_PRECISION": "no",  # the trainer's arguments say which precision is used
            "ACCELERATE_DYNAMO_BACKEND": "NO",
        }
