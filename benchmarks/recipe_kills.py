"""Kills the processes of a pipeline at random moments with SIGKILL, and checks that it ends with the same artifacts.

    python benchmarks/recipe_kills.py --kills 10 --seed 1 -- experiment=deepseek_r1_twin debug=fast

The command runs undisturbed first. Then it runs again in another folder with its own step store. Each kill has a moment of the
undisturbed run, drawn uniformly: a step, and the seconds since that step began. When the run is there, its parent, a worker, or all
its processes at once are killed, in turn, and the command is typed again until it ends. A moment that a faster run has already passed is
killed in the step that runs then. Exits with 0 if every artifact of every step has the undisturbed run's hash, and no process is left.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from soaking.census import MARK, Census, Process

from r1exp.step.status import Status, read_status

_POLL = 0.1  # seconds
_VICTIMS = ("parent", "worker", "all")
_MOST_FAILURES = 3  # times that the command may fail beyond the kills
_OUTLIVES = 20.0  # seconds that a process may live after its command


@dataclass(frozen=True)
class Moment:
    """When a kill is due: in a step, so many seconds after it began."""

    step: str
    seconds: float
    victim: str  # parent, worker or all


class Run:
    """A command line in a folder of its own, typed as often as needed.

    Args:
        arguments: Of `r1exp`.
        folder: New folder; the run is in `run`, its store in `store`.
        census: Finds its processes.
    """

    def __init__(self, arguments: list[str], folder: Path, census: Census) -> None:
        self.folder, self._census = folder, census
        folder.mkdir(parents=True)
        self._command = [sys.executable, "-m", "r1exp", *arguments, "tracking=none"]
        self._command += [f"paths.run={folder / 'run'}", f"paths.store={folder / 'store'}"]
        self._token = str(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self.num_typed = 0

    def type(self) -> None:
        """Start the command."""
        self.num_typed += 1
        log = (self.folder / f"typed-{self.num_typed}.log").open("wb")
        environment = {**os.environ, MARK: self._token}
        self._process = subprocess.Popen(
            self._command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )

    def exit_code(self) -> int | None:
        """Return the exit code of the command that was typed last; None: it runs."""
        assert self._process is not None
        return self._process.poll()

    def steps(self) -> dict[str, Status | None]:
        """Return the state of each step that has begun, by the name of its folder."""
        return {path.name: read_status(path) for path in sorted((self.folder / "run" / "steps").glob("*"))}

    def running(self) -> str | None:
        """Return the folder of the step that runs, or None."""
        states = [name for name, status in self.steps().items() if status and status.state == "running"]
        return states[-1] if states else None

    def processes(self) -> list[Process]:
        """Return its processes, oldest first."""
        self._census.update()
        return self._census.alive(self._token)

    def kill(self, victim: str) -> list[str]:
        """Kill the parent, the youngest rank, or every process; return their kinds."""
        found = self.processes()
        chosen = found
        if victim == "parent":
            chosen = found[:1]
        elif victim == "worker":
            chosen = [process for process in found if process.kind() == "rank"][-1:] or found[-1:]
        kinds = [process.kind() for process in chosen]
        for process in chosen:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        return kinds

    def hashes(self) -> dict[str, str]:
        """Return the hash of the artifact of each step."""
        return {
            name: status.artifact.hash
            for name, status in self.steps().items()
            if status is not None and status.artifact is not None
        }


def moments(
    steps: dict[str, float], number: int, numbers: random.Random, within: float = 1.0
) -> list[Moment]:
    """Return kills at moments drawn uniformly from the seconds that the steps took, in their order.

    Args:
        steps: Seconds of each step.
        number: Kills.
        numbers: Draws them.
        within: Only the first share of each step; a run that is faster than the undisturbed one ends before a late moment.
    """
    total = sum(steps.values())
    found = []
    for position, drawn in enumerate(sorted(numbers.uniform(0.0, total) for _ in range(number))):
        left = drawn
        for name, seconds in steps.items():
            if left <= seconds:
                found.append(Moment(name, within * left, _VICTIMS[position % len(_VICTIMS)]))
                break
            left -= seconds
    return found


def undisturbed(run: Run) -> dict[str, float]:
    """Run to the end; return the seconds of each step."""
    run.type()
    while run.exit_code() is None:
        time.sleep(_POLL)
    if run.exit_code() != 0:
        raise SystemExit(
            f"undisturbed, the command ends with {run.exit_code()}; see {run.folder}/typed-1.log"
        )
    return {name: status.seconds for name, status in run.steps().items() if status is not None}


def disturbed(run: Run, due: list[Moment]) -> Iterator[str]:
    """Run to the end under kills; yield what was done."""
    run.type()
    waiting = list(due)
    begun: dict[str, float] = {}  # step -> when it was first seen running after the last kill
    while True:
        time.sleep(_POLL)
        code = run.exit_code()
        if code == 0:
            break
        if code is not None:
            if run.num_typed > len(due) + _MOST_FAILURES:
                raise SystemExit(f"the command ends with {code} again and again; see {run.folder}")
            begun.clear()
            run.type()
            continue
        step = run.running()
        if step is None or not waiting:
            continue
        since = time.monotonic() - begun.setdefault(step, time.monotonic())
        moment = waiting[0]
        is_past = step > moment.step or run_is_past(run, moment)
        if is_past or (step == moment.step and since >= moment.seconds):
            del waiting[0]
            kinds = run.kill(moment.victim)
            begun.clear()
            yield f"{step} after {since:.1f} s: SIGKILL {moment.victim} ({', '.join(sorted(set(kinds)))})"
    for moment in waiting:
        yield f"not killed, because the run had ended: {moment}"


def run_is_past(run: Run, moment: Moment) -> bool:
    """Return whether the step of a moment is done."""
    status = run.steps().get(moment.step)
    return status is not None and status.state == "done"


def main(arguments: argparse.Namespace) -> int:
    """Run both, print the table, and return 0 if everything is equal."""
    folder = Path(arguments.folder or f"runs/kills/{time.strftime('%Y-%m-%d-%H-%M-%S')}").resolve()
    census = Census()
    first = Run(arguments.command, folder / "undisturbed", census)
    begun = time.monotonic()
    seconds = undisturbed(first)
    expected = first.hashes()
    print(f"undisturbed: {len(expected)} steps in {time.monotonic() - begun:.0f} s", flush=True)
    due = moments(seconds, arguments.kills, random.Random(arguments.seed), arguments.within)
    second = Run(arguments.command, folder / "disturbed", census)
    num_killed = 0
    for line in disturbed(second, due):
        num_killed += not line.startswith("not killed")
        print(line, flush=True)
    found = second.hashes()
    differing = [name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name)]
    end = time.monotonic() + _OUTLIVES
    while (left := first.processes() + second.processes()) and time.monotonic() < end:
        time.sleep(_POLL)
    last = list(expected)[-1] if expected else ""
    print(f"{num_killed} of {arguments.kills} kills, the command typed {second.num_typed} times")
    print(f"{last}: undisturbed {expected.get(last, '')[:16]}, disturbed {found.get(last, '')[:16]}")
    print(f"artifacts that differ: {', '.join(sorted(differing)) or 'none'} (of {len(expected)})")
    print(f"processes left: {', '.join(process.kind() for process in left) or 'none'}")
    return 1 if differing or left or num_killed < arguments.kills else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=10, help="at random moments")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--within", type=float, default=1.0, help="first share of each step")
    parser.add_argument(
        "--folder", default="", help="new folder for all files; runs/kills/<time> if left out"
    )
    parser.add_argument("command", nargs="+", help="arguments of r1exp, after --")
    sys.exit(main(parser.parse_args()))
