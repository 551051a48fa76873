"""The SLURM cluster of a soak: started by the script of the tests; daemons that were killed are started again."""

import os
import random
import subprocess
import time
from pathlib import Path

from soaking.census import DAEMONS, MARK, Census, Process

_SCRIPT = Path(__file__).resolve().parents[2] / "tests" / "integration" / "slurm_cluster.sh"
_DOWN = (1.0, 5.0)  # seconds until a daemon that was killed is started again


class Cluster:
    """Two nodes on this machine.

    Args:
        folder: Of its state.
        census: Finds its daemons.
        random_numbers: Decides when a daemon is started again.
    """

    def __init__(self, folder: Path, census: Census, random_numbers: random.Random) -> None:
        self._folder, self._census, self._random = folder, census, random_numbers
        self._missing: dict[str, float] = {}  # name of a daemon -> time of its start
        self._environment = {**os.environ, MARK: DAEMONS}
        subprocess.run([_SCRIPT, "up", folder, "2"], env=self._environment, check=True, timeout=120)
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")

    def daemons(self) -> list[Process]:
        """Return SLURM's processes."""
        return [process for process in self._census.alive(DAEMONS) if process.kind().startswith("slurm")]

    def tick(self) -> None:
        """Start daemons that were killed."""
        now = time.monotonic()
        running = {name for name in ("slurmctld", "n1", "n2") if self._is_running(name)}
        for name in ("slurmctld", "n1", "n2"):
            if name in running:
                self._missing.pop(name, None)
            elif now >= self._missing.setdefault(name, now + self._random.uniform(*_DOWN)):
                del self._missing[name]
                subprocess.run(
                    [_SCRIPT, "start", self._folder, name], env=self._environment, check=False, timeout=60
                )

    def end(self) -> None:
        """End the cluster."""
        subprocess.run([_SCRIPT, "down", self._folder], check=False, timeout=120)
        os.environ.pop("SLURM_CONF", None)

    def _is_running(self, name: str) -> bool:
        file = self._folder / "pid" / ("slurmctld" if name == "slurmctld" else f"slurmd.{name}")
        try:
            pid = int(file.read_text())
            return Path(f"/proc/{pid}/comm").read_text().startswith("slurm")
        except (OSError, ValueError):
            return False
