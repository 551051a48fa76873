"""The launcher of a command that names none: two processes on a CPU, one on a GPU.

Two processes with one thread each take the time of one with two threads on a quiet machine, and a third of it beside other work:
threads of OpenMP wait for each other many times in each operation. The number does not depend on the machine's cores, so that
the same command computes the same digits on machines with few and with many.
"""

from typing import Any, Literal

from pydantic import PositiveInt

from r1exp.launcher.base import Launcher
from r1exp.launcher.ddp import Ddp
from r1exp.launcher.local import Local

_ON_A_CPU = 2  # ranks


class Auto(Launcher):
    """Becomes launcher=local or launcher=ddp when a step is planned."""

    kind: Literal["auto"]
    num_processes: PositiveInt | None  # type: ignore[assignment]  # null until `for_step` has chosen

    def for_step(self, num_kept: int, can_share: bool = True) -> Launcher:
        """Return launcher=local for one process, and launcher=ddp for several.

        Raises:
            Refused: the machine has fewer GPUs than processes were typed.
        """
        own: dict[str, Any] = {"device": self.device, "threads_per_process": self.threads_per_process}
        default = _ON_A_CPU if can_share and self.resolved_device() == "cpu" else 1
        number = self.num_processes or default
        found: Launcher = Local(kind="local", num_processes=1, **own)
        if number > 1:
            found = Ddp(kind="ddp", num_processes=number, port=None, **own)
        return found.for_step(num_kept)
