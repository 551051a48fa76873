"""Reads why the kernel killed a process: from its log, and from the counters of this process's cgroup.

    /dev/kmsg        6,1234,27959566068,-;Memory cgroup out of memory: Killed process 4711 (python) total-vm:...
    memory.events    oom_kill 1        (cgroup v2; memory.oom_control in v1)

The kernel's log is readable for root, and for users where kernel.dmesg_restrict is 0. It has the ids of processes as
the machine counts them; those of a container differ, where only the counters of its cgroup remain.
"""

import os
import re
import time
from contextlib import suppress
from pathlib import Path

_LOG = Path("/dev/kmsg")
_CGROUPS = Path("/sys/fs/cgroup")
_RECORD = re.compile(
    r"^\d+,\d+,(?P<microseconds>\d+),.*?(?P<cgroup>Memory cgroup o|O)ut of memory: Killed process (?P<pid>\d+) "
)
_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_ADVICE = "lower the batch (trainer.per_device_train_batch_size), or give it more memory"


class Kills:
    """The kernel's kills for lack of memory since this object was made."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._counted = _counter()

    def why(self, pid: int | None, is_here: bool) -> str:
        """Return why a process may have received SIGKILL, as the end of a sentence.

        Args:
            pid: Its id; None: unknown.
            is_here: Whether it ran on this machine.
        """
        records = self._records() if is_here else None
        if records and pid in records:
            what = "its cgroup" if records[pid] else "the machine"
            return f", because {what} had no memory left, says the kernel's log; {_ADVICE}"
        if is_here and _counter() > self._counted:
            return f", because this run's cgroup had no memory left, says its counter oom_kill; {_ADVICE}"
        if records is None:
            return "; the machine may have run out of memory (see dmesg there)"
        return "; not for lack of memory, which the kernel's log would say"

    def _records(self) -> dict[int | None, bool] | None:
        """Return the processes killed since: id -> whether by the limit of a cgroup; None if the log is not readable."""
        found: dict[int | None, bool] = {}
        try:
            log = os.open(_LOG, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            while True:
                try:
                    record = os.read(log, 1 << 13).decode(errors="replace")  # one record
                except BrokenPipeError:  # overwritten meanwhile
                    continue
                if not record:
                    return found
                matched = _RECORD.match(record)
                if matched and int(matched["microseconds"]) / 1e6 >= self._since - 1.0:
                    found[int(matched["pid"])] = matched["cgroup"] != "O"
        except OSError:  # the end
            return found
        finally:
            os.close(log)


def _counter() -> int:
    """Return how often the kernel has killed a process of this cgroup, and in v2 of those below it."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "memory":
                place = _CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control"
            elif not controllers:
                place = _CGROUPS / path.lstrip("/") / "memory.events"
            else:
                continue
            if place.exists():
                return sum(map(int, _KILLS.findall(place.read_text(encoding="utf-8"))))
    return 0
