"""Measures the submissions per second of the local sandbox, relative to bare bubblewrap with Python.

    python benchmarks/sandbox.py [PAIRS]

Both run the same trivial program on the same input, alternately, in one process. Bare bubblewrap has
namespaces and a view of the file system, but no limits, no system call filter and no separate user.
The ratio is that of the two means over all pairs; the interval is a bootstrap over pairs. The exit code
is 1 if the ratio is below 0.8.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from r1exp.sandbox.base import Case, Limits, Submission
from r1exp.sandbox.bubblewrap import interpreter
from r1exp.sandbox.local import Local
from r1exp.sandbox.verdicts import run

PROGRAM = "print(sum(map(int, input().split())))"
CASE = Case("1 2\n", "3\n")
REQUIRED = 0.8  # of the submissions per second of bare bubblewrap
NUM_RESAMPLES = 10_000


def bare(program: Path) -> None:
    python = interpreter(None)
    shared = ["--ro-bind", "/usr", "/usr", "--ro-bind", python.prefix, python.prefix]
    links = [
        part
        for name in ("lib", "lib64", "bin")
        if Path("/", name).is_symlink()
        for part in ("--symlink", f"usr/{name}", f"/{name}")
    ]
    done = subprocess.run(
        ["bwrap", "--unshare-all", "--die-with-parent", *shared, *links, "--proc", "/proc", "--dev", "/dev",
         "--tmpfs", "/tmp", "--ro-bind", str(program), "/main.py", python.executable, "/main.py"],
        input=CASE.stdin.encode(), capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.decode() == CASE.expected


def ours() -> None:
    results = run(Local(), Submission("python", PROGRAM), [CASE], Limits())
    assert isinstance(results, list) and results[0].outcome == "passed", results


def seconds_of(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> int:
    num_pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    trouble = Local().check()
    if trouble is not None:
        print(trouble)
        return 2
    with TemporaryDirectory() as folder:
        program = Path(folder, "main.py")
        program.write_text(PROGRAM, encoding="utf-8")
        pairs = np.array([(seconds_of(lambda: bare(program)), seconds_of(ours)) for _ in range(num_pairs)])
    rows = np.random.default_rng(0).integers(num_pairs, size=(NUM_RESAMPLES, num_pairs))
    ratios = pairs[rows, 0].mean(axis=1) / pairs[rows, 1].mean(axis=1)
    ratio = pairs[:, 0].mean() / pairs[:, 1].mean()
    low, high = np.quantile(ratios, [0.025, 0.975])
    print("way                submissions/s  median seconds")
    for name, column in (("bare bubblewrap", 0), ("local sandbox", 1)):
        each = pairs[:, column]
        print(f"{name:<18} {1 / each.mean():13.1f} {statistics.median(each):15.4f}")
    print(f"ratio {ratio:.3f}, 95% interval {low:.3f} to {high:.3f}, {num_pairs} pairs; required {REQUIRED}")
    return 0 if ratio >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())
