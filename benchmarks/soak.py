"""Runs r1exp for a given time while random processes are killed, and checks that every run comes back and nothing is left.

    python benchmarks/soak.py --minutes 45 --seed 1 --cores 4
    taskset -c 0,1 python benchmarks/soak.py --minutes 3 --cores 2 --only single,ddp,twins

First every scenario (benchmarks/soaking/scenarios.py) runs undisturbed, and the hashes of its artifacts are kept. Then
several places run scenarios side by side. Every two seconds at most, a random process of a place gets SIGKILL, SIGTERM,
SIGINT, or SIGSTOP and then SIGKILL; as root, its disk is also filled or its folders become read-only for some seconds. A
command that has ended is typed again until its exit code is 0. At the end of a place every run must be `done`, every
artifact equal to the undisturbed one, and no process, port, lease or temporary file left; at the end of the soak
nothing in /dev/shm. Every random choice comes from the seed; how far a run is at a moment depends on the machine.

Exits with 0 if all of that holds. The output of commands stays in FOLDER/logs, what was lost in FOLDER/lost.
"""

import argparse
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from soaking.census import Census, Process
from soaking.cluster import Cluster
from soaking.disk import Disk
from soaking.judge import Artifacts, judge, shared_memory
from soaking.killer import Killer
from soaking.place import Disturbance, Place
from soaking.scenarios import CHECKOUT, SCENARIOS, Scenario

_POLL = 0.25  # seconds
_LONGEST = 8 * 60.0  # seconds that a place may take; one that takes longer is lost
_AFTER = 5 * 60.0  # seconds that the last places may take after the last disturbance
_INSIDE = "R1EXP_SOAK_MOUNTS"  # set in the private mount namespace


@dataclass
class Lane:
    """Runs one scenario after the other, each in a new place."""

    number: int
    folder: Path
    disk: Disk | None
    place: Place | None = None
    count: int = 0


@dataclass
class Soak:
    """The places, the killer, and what came of them."""

    folder: Path
    lanes: list[Lane]
    scenarios: list[Scenario]
    seed: int
    leaves: float  # seconds that what a command started may run after it
    census: Census = field(default_factory=Census)
    cluster: Cluster | None = None
    expected: dict[str, Artifacts] = field(default_factory=dict)
    disturbances: list[Disturbance] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)  # scenario -> places that came back
    lost: list[str] = field(default_factory=list)
    starts: int = 0
    _bag: list[Scenario] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.seed}/scenarios")
        self.killer = Killer(random.Random(f"{self.seed}/killer"), self._daemons)

    def undisturbed(self) -> None:
        """Run every scenario once without disturbances and keep its artifacts' hashes."""
        self._bag = list(self.scenarios)
        self._work(lambda: bool(self._bag), kills=False)
        if len(self.expected) < len(self.scenarios):
            raise SystemExit("undisturbed, these do not run as they should:\n" + "\n".join(self.lost))

    def disturbed(self, seconds: float) -> None:
        """Run scenarios for some seconds under disturbances; then every place comes to its end without them."""
        until = time.monotonic() + seconds
        self._bag = []
        self._work(lambda: time.monotonic() < until, kills=True)

    def _daemons(self) -> list[Process]:
        return [] if self.cluster is None else self.cluster.daemons()

    def _work(self, goes_on: Callable[[], bool], kills: bool) -> None:
        shown = time.monotonic()
        last = math.inf  # the time at which the last places must have come to their end
        while goes_on() or any(lane.place for lane in self.lanes):
            self.census.update()
            may_begin = goes_on()
            if not may_begin:
                self.killer.finish()
                last = min(last, time.monotonic() + _AFTER) if kills else last
            for lane in self.lanes:
                if lane.place is None and may_begin and (scenario := self._next_scenario()) is not None:
                    self._begin(lane, scenario)
                if lane.place is None:
                    continue
                lane.place.tick()
                if lane.place.is_done or time.monotonic() > min(lane.place.begun + _LONGEST, last):
                    self._end(lane, lane.place)
                elif kills and may_begin:
                    self.killer.tick(lane.place, lane.disk)
            self.killer.act_later()
            if self.cluster is not None:
                self.cluster.tick()
            if time.monotonic() - shown > 30:
                shown = time.monotonic()
                self._show()
            time.sleep(_POLL)

    def _next_scenario(self) -> Scenario | None:
        """Draw a scenario that no lane runs; each comes once before one comes again."""
        running = {lane.place.scenario.name for lane in self.lanes if lane.place is not None}
        if not self._bag and self.expected.keys() == {scenario.name for scenario in self.scenarios}:
            self._bag = self._random.sample(self.scenarios, len(self.scenarios))
        for scenario in self._bag:
            if scenario.name not in running:
                self._bag.remove(scenario)
                return scenario
        return None

    def _begin(self, lane: Lane, scenario: Scenario) -> None:
        lane.count += 1
        name = f"{lane.number}-{lane.count:03d}-{scenario.name}"
        numbers = random.Random(f"{self.seed}/{name}")
        log = self.folder / "logs" / name
        lane.place = Place(scenario, lane.folder / name, log, numbers, self.census, self.leaves)

    def _end(self, lane: Lane, place: Place) -> None:
        if place.is_done:
            verdict = judge(place, self.census, self.expected.get(place.scenario.name))
            faults = verdict.faults
            if not place.disturbances and verdict.artifacts:
                self.expected.setdefault(place.scenario.name, verdict.artifacts)
        else:
            codes = [command.codes for command in place.commands]
            faults = (f"not done after {time.monotonic() - place.begun:.0f} s; exit codes {codes}",)
        for disturbance in place.disturbances:
            disturbance.survived = not faults
        self.disturbances += place.disturbances
        self.starts += sum(len(command.codes) for command in place.commands)
        self.ended[place.scenario.name] += not faults
        if faults:
            before = "; ".join(f"{each.after:.0f} s {each.how} {each.victim}" for each in place.disturbances)
            self.lost.append(f"{place.folder.name}: {'; '.join(faults)} (after: {before or 'nothing'})")
            print(f"LOST {self.lost[-1]}", flush=True)
        place.end()
        if faults:
            with suppress(shutil.Error):  # sockets, and what was removed meanwhile
                shutil.copytree(
                    place.folder,
                    self.folder / "lost" / place.folder.name,
                    symlinks=True,
                    ignore=shutil.ignore_patterns("*.safetensors", "*.pt", "cache"),
                )
        shutil.rmtree(place.folder, ignore_errors=True)
        lane.place = None

    def _show(self) -> None:
        running = [each for lane in self.lanes if lane.place for each in lane.place.disturbances]
        places = " ".join(lane.place.folder.name for lane in self.lanes if lane.place)
        made = len(self.disturbances) + len(running)
        print(
            f"{time.strftime('%H:%M:%S')} {made} disturbances, {self.ended.total()} places came back, "
            f"{len(self.lost)} lost; running: {places}",
            flush=True,
        )


def table(disturbances: list[Disturbance]) -> str:
    """Return what was disturbed, how often, and how often the run came back equal."""
    kinds = sorted({each.victim for each in disturbances})
    lines = ["| victim | signals | disturbed | survived |", "|---|---|---|---|"]
    for kind in kinds:
        own = [each for each in disturbances if each.victim == kind]
        is_moment = kind.startswith(("full", "read-only"))
        signals = (
            ""
            if is_moment
            else ", ".join(
                f"{name} {count}" for name, count in Counter(each.how for each in own).most_common()
            )
        )
        lines.append(f"| {kind} | {signals} | {len(own)} | {sum(each.survived is True for each in own)} |")
    survived = sum(each.survived is True for each in disturbances)
    lines.append(f"| all | | {len(disturbances)} | {survived} |")
    return "\n".join(lines)


def main(arguments: argparse.Namespace) -> int:
    """Run the soak and print its table; return 0 if everything came back and nothing is left."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    folder = Path(arguments.folder or f"runs/soak/{time.strftime('%Y-%m-%d-%H-%M-%S')}").resolve()
    folder.mkdir(parents=True)
    has_mounts = _INSIDE in os.environ
    before = shared_memory()
    chosen, skipped = _chosen(arguments.only, has_mounts)
    for line in skipped:
        print(f"skipped: {line}")
    _copy_of_code(folder / "code")
    lanes = []
    for number in range(arguments.lanes or arguments.cores + 1):
        own = folder / f"lane-{number}"
        lanes.append(Lane(number, own, Disk(own) if has_mounts else None))
    soak = Soak(folder, lanes, chosen, arguments.seed, arguments.leaves)
    if any(scenario.is_job for scenario in chosen):
        soak.cluster = Cluster(folder / "cluster", soak.census, random.Random(f"{arguments.seed}/cluster"))
    begun = time.monotonic()
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # ends what runs, as Ctrl-C does
    try:
        soak.undisturbed()
        print(f"undisturbed: {len(chosen)} scenarios in {time.monotonic() - begun:.0f} s", flush=True)
        soak.disturbed(60 * arguments.minutes)
    finally:
        for lane in lanes:
            if lane.place is not None:
                lane.place.end()
        if soak.cluster is not None:
            soak.cluster.end()
        for lane in lanes:
            if lane.disk is not None:
                lane.disk.end()
        left = sorted(shared_memory() - before)
        print(
            f"\nseed {arguments.seed}, {arguments.minutes:g} minutes, {arguments.cores} cores, {len(lanes)} lanes"
        )
        print(", ".join(f"{name} {soak.ended[name]}" for name in sorted(soak.ended)) + " places came back")
        print(f"{soak.starts} commands typed\n\n{table(soak.disturbances)}\n")
        print("left in /dev/shm: " + (", ".join(left) or "nothing"))
        print("lost: " + ("; ".join(["", *soak.lost]) if soak.lost else "nothing"))
    return 1 if left or soak.lost else 0


def _copy_of_code(folder: Path) -> None:
    """Copy what the commands run, because a run that was begun with other code is not continued."""
    for name in ("r1exp", "conf", "launchers", "sweeps"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    os.environ["PYTHONPATH"] = str(folder)


def _chosen(only: str, has_mounts: bool) -> tuple[list[Scenario], list[str]]:
    """Return the scenarios that can run here, and a line for everything that cannot."""
    names = [name for name in only.split(",") if name]
    unknown = set(names) - {scenario.name for scenario in SCENARIOS}
    if unknown:
        raise SystemExit(f"--only: there is no {', '.join(sorted(unknown))}; choose from "
                         f"{', '.join(scenario.name for scenario in SCENARIOS)}")  # fmt: skip
    wanted = [scenario for scenario in SCENARIOS if not names or scenario.name in names]
    skipped = [] if has_mounts else ["full disks and read-only moments: they need root and `unshare --mount`"]
    chosen = []
    for scenario in wanted:
        missing = scenario.missing() or ("root" if scenario.is_job and os.getuid() != 0 else "")
        if missing:
            skipped.append(f"{scenario.name}: needs {missing}")
        else:
            chosen.append(scenario)
    return chosen, skipped


def _in_private_mounts() -> None:
    """Continue in a mount namespace of its own with its own /dev/shm, where that is possible."""
    if _INSIDE in os.environ or os.getuid() != 0 or shutil.which("unshare") is None:
        return
    probe = subprocess.run(["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "x", "/mnt"],
                           capture_output=True, check=False)  # fmt: skip
    if probe.returncode != 0:
        return
    script = 'mount -t tmpfs -o mode=1777 shm /dev/shm && exec "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    os.environ[_INSIDE] = "1"
    os.execvp(command[0], [*command, sys.executable, __file__, *sys.argv[1:]])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--minutes", type=float, default=3.0, help="under disturbances; the undisturbed runs come before"
    )
    parser.add_argument("--seed", type=int, default=1, help="of every random choice")
    parser.add_argument("--cores", type=int, default=2, help="that are used, the first ones of those allowed")
    parser.add_argument("--lanes", type=int, default=0, help="scenarios at once; 0: one more than cores")
    parser.add_argument("--only", default="", help="names of scenarios, with commas; all if left out")
    parser.add_argument(
        "--leaves", type=float, default=10.0, help="seconds that what a command started may run after it"
    )
    parser.add_argument("--folder", default="", help="new folder for all files; runs/soak/<time> if left out")
    parsed = parser.parse_args()
    _in_private_mounts()
    sys.exit(main(parsed))
