"""One process on this machine."""

from typing import Literal

from r1exp.launcher.base import Launcher


class Local(Launcher):
    """One process."""

    kind: Literal["local"]
    num_processes: Literal[1]  # one process; launcher=ddp runs several
