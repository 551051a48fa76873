"""Disturbs places at random moments: kills processes, fills their disk, makes folders read-only.

The moments of a place have exponential distances, so that each moment between its start and its end is as likely as any
other; the mean is the patience of its scenario. First the kind of victim is drawn, then the process, then the signal.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from soaking.census import Process
from soaking.disk import Disk
from soaking.place import Disturbance, Place

_BETWEEN = 2.0  # seconds between any two disturbances, at least
_LONGEST = 60.0  # seconds without a disturbance of a place, at most
_STOPPED = (1.0, 4.0)  # seconds between SIGSTOP and SIGKILL
_MOMENT = (2.0, 8.0)  # seconds of a full disk or a read-only folder
_SHARE_OF_MOMENTS = 0.15  # of all disturbances, where a disk of its own can be mounted
_SIGNALS = (("SIGKILL", 70), ("SIGSTOP, SIGKILL", 12), ("SIGTERM", 12), ("SIGINT", 6))  # with weights


@dataclass
class _Later:
    at: float  # time.monotonic()
    act: Callable[[], None]


class Killer:
    """Draws every victim, signal and moment from one generator.

    Args:
        random_numbers: The generator.
        daemons: Returns processes that every job depends on (SLURM's).
    """

    def __init__(self, random_numbers: random.Random, daemons: Callable[[], list[Process]]) -> None:
        self._random = random_numbers
        self._daemons = daemons
        self._next: dict[str, float] = {}  # name of a place -> time of its next disturbance
        self._later: list[_Later] = []
        self._last = 0.0

    def tick(self, place: Place, disk: Disk | None) -> None:
        """Disturb a place if its moment has come."""
        now = time.monotonic()
        name = place.folder.name
        if name not in self._next:
            self._next[name] = now + self._wait(place)
        if now < self._next[name] or now - self._last < _BETWEEN:
            return
        is_moment = self._random.random() < _SHARE_OF_MOMENTS and disk is not None
        done = self._spoil(place, disk) if is_moment and disk is not None else self._kill(place)
        if done is not None:
            place.disturbances.append(done)
            self._last = now
        self._next[name] = now + self._wait(place)

    def act_later(self) -> None:
        """Do what was to be done some seconds after a disturbance, and is due."""
        now = time.monotonic()
        due = [later for later in self._later if later.at <= now]
        self._later = [later for later in self._later if later.at > now]
        for later in due:
            later.act()

    def finish(self) -> None:
        """End every moment that lasts."""
        for later in self._later:
            later.act()
        self._later.clear()

    def _wait(self, place: Place) -> float:
        return min(self._random.expovariate(1 / place.scenario.patience), _LONGEST * 2)

    def _kill(self, place: Place) -> Disturbance | None:
        kinds: dict[str, list[Process]] = {}
        daemons = self._daemons() if place.scenario.is_job else []
        for process in [*place.processes(), *daemons]:
            kinds.setdefault(process.kind(), []).append(process)
        kinds.pop("gone", None)
        if not kinds:
            return None
        kind = self._random.choice(sorted(kinds))
        victim = self._random.choice(kinds[kind])
        how = self._random.choices([name for name, _ in _SIGNALS], [weight for _, weight in _SIGNALS])[0]
        first, _, second = how.partition(", ")
        _send(victim, first)
        if second:
            seconds = self._random.uniform(*_STOPPED)
            self._later.append(_Later(time.monotonic() + seconds, lambda: _send(victim, second)))
        return Disturbance(kind, how, time.monotonic() - place.begun)

    def _spoil(self, place: Place, disk: Disk) -> Disturbance | None:
        """Fill the disk of a place, or make its store or runs read-only, for some seconds."""
        moment = self._random.choice(("full disk", "read-only store", "read-only run"))
        seconds = self._random.uniform(*_MOMENT)
        if moment == "full disk":
            undo = disk.fill()
        else:
            folders = disk.stores(place.folder) if moment == "read-only store" else disk.runs(place.folder)
            if not folders:
                return None
            undo = disk.make_read_only(self._random.choice(folders))
        self._later.append(_Later(time.monotonic() + seconds, undo))
        return Disturbance(moment, f"{seconds:.0f} s", time.monotonic() - place.begun)


def _send(process: Process, name: str) -> None:
    if process.is_alive():
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.Signals[name])
