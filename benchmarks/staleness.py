"""Measures how long optimizer steps take if the next batch is sampled meanwhile (`rollout.staleness=1`), on two cores.

    python benchmarks/staleness.py --pairs=3 --algorithm=grpo

Each round runs every variant once, one after another, each on the same two cores. Time is the sum of `step_time` (sampling,
scoring, rewards, forward and backward) without the first three steps; ratios are of the same round, so that other work on
the machine counts for both alike.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

_VARIANTS = {
    "staleness=0, 1 process x 1 thread": ("rollout.staleness=0", "launcher=local"),
    "staleness=1, 2 processes x 1 thread": ("rollout.staleness=1", "launcher=local"),
}
_THREADS = {"staleness=0, 1 process x 2 threads": ("rollout.staleness=0", "launcher.threads_per_process=2")}
_SKIPPED = 3  # optimizer steps; the helper starts during the first


def seconds_of(folder: Path, algorithm: str, steps: int, words: tuple[str, ...], cores: set[int]) -> float:
    """Train once and return the seconds of its optimizer steps."""
    command = [
        sys.executable, "-m", "r1exp", "stage=rl", f"algorithm={algorithm}", f"max_steps={steps}", "tracking=none", "health=off",
        "evaluation.before=false", "evaluation.after=false", "launcher.device=cpu", f"paths.run={folder / 'run'}",
        f"paths.store={folder / 'store'}", *words,
    ]  # fmt: skip
    subprocess.run(
        command, check=True, preexec_fn=lambda: os.sched_setaffinity(0, cores), stdout=subprocess.DEVNULL
    )
    (file,) = (folder / "run").glob("steps/*/metrics.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return sum(row["step_time"] for row in rows if "step_time" in row and row["step"] > _SKIPPED)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3, help="rounds")
    parser.add_argument("--steps", type=int, default=15, help="optimizer steps of each run")
    parser.add_argument("--algorithm", default="grpo")
    parser.add_argument(
        "--threads", action="store_true", help="also by turns with two threads; needs a quiet machine"
    )
    options = parser.parse_args()
    variants = _VARIANTS | (_THREADS if options.threads else {})
    cores = set(sorted(os.sched_getaffinity(0))[:2])
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(options.pairs):
        for name, words in variants.items():
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(seconds_of(Path(folder), options.algorithm, options.steps, words, cores))
    base = found["staleness=0, 1 process x 1 thread"]
    print(
        f"{options.algorithm}, {options.steps - _SKIPPED} optimizer steps, two cores, {options.pairs} rounds"
    )
    print("| variant | seconds | share of the first row, by round |\n|---|---|---|")
    for name, times in found.items():
        shares = [time / first for time, first in zip(times, base, strict=True)]
        each = ", ".join(f"{share:.2f}" for share in shares)
        print(f"| {name} | {statistics.median(times):.1f} | {statistics.median(shares):.2f} ({each}) |")


if __name__ == "__main__":
    main()
