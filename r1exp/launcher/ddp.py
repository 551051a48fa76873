"""Several processes on this machine, with plain data parallelism."""

import sys
from pathlib import Path
from typing import Literal

from pydantic import PositiveInt

from r1exp.launcher.base import Launcher


class Ddp(Launcher):
    """One process per device; DistributedDataParallel averages gradients over gloo on CPUs, NCCL on GPUs."""

    kind: Literal["ddp"]
    num_processes: PositiveInt  # ranks
    port: PositiveInt | None  # of the rendezvous; null: a free one

    def command(self, folder: Path, accelerate: list[str], worker: list[str]) -> list[str]:
        """Return the command with the port of the rendezvous."""
        return [sys.executable, *accelerate, *self.rendezvous_here(self.port), *worker]
