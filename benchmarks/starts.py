"""Seconds of short commands in two checkouts, side by side: the quickstart, `debug=fast`, and a sweep of twenty tiny members.

    python benchmarks/starts.py --before CHECKOUT --before-python CHECKOUT/.venv/bin/python            # a quiet machine
    python benchmarks/starts.py --before CHECKOUT --before-python CHECKOUT/.venv/bin/python --quick    # one round, few steps

CHECKOUT is an older version with its environment, for example made with

    git worktree add ../before 9630a96 && python -m venv ../before/.venv && ../before/.venv/bin/pip install -e ../before -c constraints.txt

Old and new take turns, each in a new folder, so that no finished step is shared. `beside one busy core` runs the quickstart
while another process computes without a pause. A cell has the median of the rounds and their range in seconds; the load is that of
the machine before the round. The bar is the largest ratio that is aimed at.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
BUSY = "while True: pass"


@dataclass(frozen=True)
class Command:
    """A command that both versions run."""

    title: str
    overrides: tuple[str, ...]
    bar: str  # largest ratio new / old
    is_beside: bool = False  # whether another process uses one core
    new: tuple[str, ...] = ()  # only for the new version: what it adds


def commands(is_quick: bool, members: int, parallel: int) -> list[Command]:
    """Return the commands; `is_quick` shortens the quickstart's training."""
    short = ("max_steps=6", "evaluation.num_problems=100") if is_quick else ()
    quickstart = ("tracking=none", *short)
    seeds = ",".join(str(seed) for seed in range(1, members + 1))
    sweep = ("-m", "debug=fast", "tracking=none", "stage=sft", "evaluation.after=false", f"seed={seeds}")
    return [
        Command("quickstart", quickstart, "0.70"),
        Command("quickstart beside one busy core", quickstart, "0.40", is_beside=True),
        Command("debug=fast", ("debug=fast", "tracking=none"), "0.35"),
        Command(
            f"{members} tiny members",
            sweep,
            "0.20 on four cores, 0.35 on two",
            new=(f"sweep.parallel={parallel}",),
        ),
    ]


def seconds(python: Path, checkout: Path, overrides: tuple[str, ...]) -> float:
    """Return the wall-clock seconds of one command in a new folder.

    Raises:
        SystemExit: the command failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.txt"
        begun = time.monotonic()
        with out.open("w") as file:
            done = subprocess.run(
                [python, "-P", "-m", "r1exp", *overrides], cwd=folder, stdout=file, stderr=file, check=False,
                env={**os.environ, "PYTHONPATH": str(checkout)},
            )  # fmt: skip
        spent = time.monotonic() - begun
        if done.returncode:
            raise SystemExit(f"{checkout}: exit code {done.returncode}\n{out.read_text()[-2000:]}")
        return spent


@contextmanager
def busy(is_wanted: bool) -> Iterator[None]:
    """Let another process use one core during the block."""
    process = subprocess.Popen([sys.executable, "-c", BUSY]) if is_wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def cell(values: list[float]) -> str:
    """Return the median and the range."""
    return f"{statistics.median(values):.1f} [{min(values):.1f}, {max(values):.1f}]"


def main() -> None:
    """Print a row of the table for each command."""
    parser = argparse.ArgumentParser(description="Compare the time of short commands in two versions.")
    parser.add_argument("--before", type=Path, required=True, help="checkout of the older version")
    parser.add_argument("--before-python", type=Path, help="its Python; default: this one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument(
        "--parallel", type=int, default=len(os.sched_getaffinity(0)), help="members at once, new version"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round with a short quickstart and four members"
    )
    parser.add_argument("--only", help="part of the titles of the commands to run")
    given = parser.parse_args()
    rounds, members = (1, 4) if given.quick else (given.rounds, given.members)
    old_python = (given.before_python or Path(sys.executable)).absolute()
    print(f"{len(os.sched_getaffinity(0))} cores, {rounds} round(s)\n")
    print("| command | before, s | now, s | now / before | bar | load |\n|---|---|---|---|---|---|")
    for command in commands(given.quick, members, given.parallel):
        if given.only is not None and given.only not in command.title:
            continue
        old, new, loads = list[float](), list[float](), list[float]()
        for _ in range(rounds):
            loads.append(os.getloadavg()[0])
            with busy(command.is_beside):
                old.append(seconds(old_python, given.before.resolve(), command.overrides))
                new.append(seconds(Path(sys.executable), HERE, command.overrides + command.new))
        ratios = [after / before for before, after in zip(old, new, strict=True)]
        print(
            f"| {command.title} | {cell(old)} | {cell(new)} | {statistics.median(ratios):.2f} "
            f"[{min(ratios):.2f}, {max(ratios):.2f}] | {command.bar} | {max(loads):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
