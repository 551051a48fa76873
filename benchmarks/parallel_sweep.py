"""Runs a sweep side by side, kills it in the middle, and compares it with the same sweep run one after the other.

    python benchmarks/parallel_sweep.py --members 24 --parallel 4

The members share one SFT for each seed, and differ in beta; with --short each is one step of SFT, which pairs of members have in
common. First all of them run one after the other. Then they run side by
side, in another folder with a step store of its own. The last member fails at first, because a file is in the place of its
folder. When a third of the members have ended and that one has failed, the process of the sweep is killed with SIGKILL. After
that no process may be left; the file is removed, and the command is typed again.

Exits with 0 if every artifact and every value of sweep.json but times is equal, and no step was executed that was finished: a
step is executed once, and once more where the kill ended it.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from soaking.census import MARK, Census

from r1exp.paths import RunPaths, SweepPaths
from r1exp.plan.run_plan import read_plan
from r1exp.report.sweep_table import rows_of
from r1exp.step.status import read_status

_POLL = 0.05  # seconds
_INTO_A_STEP = 0.5  # seconds that a step has run when the sweep is killed
_OUTLIVES = 20.0  # seconds that a process may live after its sweep
_STARTS = re.compile(r"^\[\d+/\d+\] (\S+): starts", re.MULTILINE)
_TIMES = ("seconds", "elapsed_seconds", "original_seconds", "reused_from", "timing", "memory")
_TINY = [
    "debug=fast",
    "tracking=none",
    "evaluation.before=false",
    "evaluation.greedy=false",
    "launcher=local",
    "launcher.threads_per_process=1",
]


class Sweep:
    """A sweep in a folder of its own, typed as often as needed.

    Args:
        folder: New folder.
        overrides: Of the command line.
        census: Finds its processes.
    """

    def __init__(self, folder: Path, overrides: list[str], census: Census) -> None:
        folder.mkdir(parents=True)
        self.folder, self._census = folder / "sweep", census
        self._log = folder / "output.log"
        places = [f"hydra.sweep.dir={self.folder}", f"paths.store={folder / 'store'}"]
        self._command = [sys.executable, "-m", "r1exp", "-m", *overrides, *places]
        self._token = str(folder)
        self.seconds: list[float] = []  # of each time that it was typed and ended by itself

    def start(self) -> subprocess.Popen[bytes]:
        """Type the command."""
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._command, env={**os.environ, MARK: self._token}, stdout=log, stderr=subprocess.STDOUT
            )

    def run(self) -> int:
        """Type the command, wait for its end, and return its exit code."""
        begun = time.monotonic()
        code = self.start().wait()
        self.seconds.append(time.monotonic() - begun)
        return code

    def num_processes(self) -> int:
        """Return its living processes."""
        self._census.update()
        return len(self._census.alive(self._token))

    def members(self) -> list[Path]:
        """Return the run directories."""
        return sorted(
            (path for path in self.folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name)
        )

    def num_running(self) -> int:
        """Return the steps that run."""
        folders = [paths.folder for member in self.members() for paths in RunPaths(member).all_steps()]
        states = [status.state for status in map(read_status, folders) if status is not None]
        return states.count("running")

    def executed(self) -> int:
        """Return how many steps were started, in all times that it was typed."""
        logs = [self._log, *(RunPaths(member).log for member in self.members())]
        return sum(len(_STARTS.findall(log.read_text(errors="replace"))) for log in logs if log.exists())

    def different(self) -> int:
        """Return the number of different steps of all members."""
        return len({step.slot for member in self.members() for step in read_plan(member).steps})

    def hashes(self) -> dict[str, str]:
        """Return member/step -> hash of its artifact."""
        found = {}
        for member in self.members():
            for paths in RunPaths(member).all_steps():
                status = read_status(paths.folder)
                if status is not None and status.artifact is not None:
                    found[f"{member.name}/{paths.folder.name}"] = status.artifact.hash
        return found

    def values(self) -> dict[str, Any]:
        """Return the rows of sweep.json, without times and what names this folder."""
        return {row["member"]: _without_times(row) for row in rows_of(self.folder)}


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: each for key, each in value.items() if key not in _TIMES and "seconds" not in key}
        return {key: _without_times(each) for key, each in kept.items() if key != "overrides"}
    return [_without_times(each) for each in value] if isinstance(value, list) else value


def killed(sweep: Sweep, at: int, failing: str) -> tuple[int, float]:
    """Start a sweep and kill its process; return the steps that ran then, and the seconds until no process was left.

    Args:
        sweep: The sweep.
        at: Kill when so many members have ended, a step has run for some seconds,
        failing: and this member has failed.
    """
    begun = time.monotonic()
    process = sweep.start()
    since: float | None = None  # when a step was first seen running after that
    while since is None or time.monotonic() - since < _INTO_A_STEP:
        time.sleep(_POLL)
        rows = rows_of(sweep.folder) if sweep.folder.exists() else []
        codes = {row["member"]: row["exit_code"] for row in rows}
        if process.poll() is not None:
            raise SystemExit(f"the sweep ended before it was killed: {codes}")
        is_due = sum(code == 0 for code in codes.values()) >= at and bool(codes.get(failing))
        since = (since or time.monotonic()) if is_due and sweep.num_running() else None
    running = sweep.num_running()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    sweep.seconds.append(time.monotonic() - begun)
    end = time.monotonic()
    while sweep.num_processes() and time.monotonic() - end < _OUTLIVES:
        time.sleep(_POLL)
    return running, time.monotonic() - end


def main(arguments: argparse.Namespace) -> int:
    """Run both sweeps, print the figures, and return 0 if all is as it should be."""
    folder = Path(arguments.folder or f"runs/parallel/{time.strftime('%Y-%m-%d-%H-%M-%S')}").resolve()
    settings = arguments.members // 2
    swept = ["seed=1,2", "beta=" + ",".join(f"{number / 1000:g}" for number in range(settings))]
    if arguments.short:
        seeds = ",".join(map(str, range(1, settings + 1)))
        swept = ["stage=sft", "max_steps=60", "evaluation.after=false", f"seed={seeds}", "name=first,second"]
    census = Census()
    one = Sweep(folder / "one-after-the-other", [*_TINY, *swept], census)
    several = Sweep(folder / "side-by-side", [*_TINY, *swept, f"sweep.parallel={arguments.parallel}"], census)
    if one.run() != 0:
        raise SystemExit(f"the sweep failed; see {folder}")
    print(
        f"one after the other: {one.executed()} steps executed, {one.different()} different, {one.seconds[0]:.0f} s",
        flush=True,
    )
    failing = 1 if arguments.short else settings - 1  # one that starts before the kill
    blocked = SweepPaths(several.folder).member(failing) / "steps"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("")
    running, until = killed(several, arguments.members // 3, str(failing))
    left = several.num_processes()
    codes = Counter(row["exit_code"] for row in rows_of(several.folder))
    print(
        f"side by side, {arguments.parallel} at once: killed after {several.seconds[0]:.0f} s; members by exit code: {dict(codes)}"
    )
    print(f"processes left {until:.1f} s after the kill: {left}", flush=True)
    before = several.executed()
    blocked.unlink()
    code = several.run()
    print(
        f"the same command: exit code {code} after {several.seconds[1]:.0f} s, {several.executed() - before} steps executed"
    )
    expected, found = one.hashes(), several.hashes()
    differing = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
    rows, others = one.values(), several.values()
    changed = [name for name in rows.keys() | others.keys() if rows.get(name) != others.get(name)]
    again = several.executed() - several.different()
    print(
        f"side by side: {several.executed()} steps executed, {several.different()} different; {running} ran at the kill"
    )
    print(f"artifacts that differ: {', '.join(sorted(differing)) or 'none'} (of {len(expected)})")
    print(f"rows of sweep.json that differ: {', '.join(sorted(changed)) or 'none'} (of {len(rows)})")
    print(
        f"time of both parts of it, against one after the other: {sum(several.seconds) / one.seconds[0]:.2f}"
    )
    if changed:
        print(json.dumps([rows.get(changed[0]), others.get(changed[0])]))
    is_right = code == 0 and not differing and not changed and not left and again <= running
    if is_right and not arguments.folder:
        shutil.rmtree(folder)
    return 0 if is_right else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--members", type=int, default=24, help="an even number")
    parser.add_argument("--parallel", default="auto", help="of sweep.parallel")
    parser.add_argument("--short", action="store_true", help="one step a member")
    parser.add_argument(
        "--folder", default="", help="new folder for all files, which is kept; else runs/parallel/<time>"
    )
    sys.exit(main(parser.parse_args()))
