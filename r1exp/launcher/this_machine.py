"""Several processes on this machine: how many they are, and where they meet. The base of launcher=ddp and zero*."""

import sys
from pathlib import Path
from typing import ClassVar, Self

from pydantic import PositiveInt

from r1exp.errors import Refused
from r1exp.launcher.base import Launcher

_ON_A_CPU = 2  # ranks where num_processes is null


class OnThisMachine(Launcher):
    """One process for each device."""

    # Ranks; null until `for_step` has counted the devices, which planning does before anything reads the number.
    num_processes: PositiveInt | None  # type: ignore[assignment]  # see above
    port: PositiveInt | None  # of the rendezvous; null: a free one
    can_fork: ClassVar[bool] = True

    def for_step(self, num_kept: int, can_share: bool = True) -> Self:
        """Return this launcher with a number of ranks: one for each GPU but `num_kept`, or two on a CPU.

        Raises:
            Refused: the machine has fewer GPUs, or shows none that could be counted.
        """
        if self.resolved_device() == "cpu":
            number = self.num_processes or _ON_A_CPU
        else:
            number = self._ranks_on(len(self.devices()), num_kept)
        return self.model_copy(update={"num_processes": number})

    def _ranks_on(self, num_devices: int, num_kept: int) -> int:
        """Return the ranks on a machine with GPUs; raise Refused if they are too few."""
        left = num_devices - num_kept
        server = f", of which the vLLM server takes {num_kept}" if num_kept else ""
        if self.num_processes is None:
            if num_devices == 0:
                raise Refused(
                    "launcher.num_processes=null is one process for each GPU, and this machine shows none to count; type "
                    "their number, or plan for another machine: r1exp plan device=h100 devices=8"
                )
            if left < 1:
                raise Refused(
                    f"this machine shows {num_devices} CUDA device(s){server}, so that none is left to train on; lower "
                    "rollout.num_devices, or use rollout=vllm_colocate, which shares the devices of the ranks"
                )
            return left
        if num_devices and self.num_processes > left:
            type_this = (
                f"type launcher.num_processes={left}, or leave it out"
                if left > 0
                else "use rollout=vllm_colocate"
            )
            raise Refused(
                f"launcher.num_processes={self.num_processes}: this machine shows {num_devices} CUDA device(s){server}, and "
                f"each process needs one of its own; {type_this}"
            )
        return self.num_processes

    def command(self, folder: Path, accelerate: list[str], worker: list[str]) -> list[str]:
        """Return the command with the port of the rendezvous."""
        return [sys.executable, *accelerate, *self.rendezvous_here(self.port), *worker]
