"""Seconds of `debug=fast` for every pipeline, on generated sums and on GSM8K; the table of docs/performance.md.

    taskset -c 0,1 python benchmarks/debug_fast.py --gsm8k FOLDER
    taskset -c 0,1 python benchmarks/debug_fast.py --gsm8k FOLDER --before CHECKOUT   # side by side with another version

FOLDER has train.jsonl and test.jsonl. Each command runs in a new folder, so that it shares no finished step. Other
programs on the same cores slow it down: the load beside each number says how many ran.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
PIPELINES = sorted(path.stem for path in (HERE / "conf/pipeline").glob("*.yaml") if path.stem != "none")


def seconds(checkout: Path, *overrides: str) -> tuple[float, int]:
    """Return the wall-clock seconds and the exit code of one command."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-m", "r1exp", "debug=fast", "tracking=none", *overrides]
        begun = time.monotonic()
        with (Path(folder) / "out.txt").open("w") as out:
            done = subprocess.run(
                command, cwd=folder, env={**os.environ, "PYTHONPATH": str(checkout)}, stdout=out, stderr=out,
                check=False,
            )  # fmt: skip
        return time.monotonic() - begun, done.returncode


def rows(gsm8k: Path | None, checkouts: list[Path]) -> Iterator[str]:
    """Yield one line of the table for each pipeline and data set."""
    data: dict[str, list[str]] = {"arithmetic": []} | (
        {} if gsm8k is None else {"gsm8k": ["dataset=gsm8k", f"dataset.path={gsm8k}"]}
    )
    for pipeline in PIPELINES:
        for name, overrides in data.items():
            cells = []
            for checkout in checkouts:
                spent, code = seconds(checkout, f"pipeline={pipeline}", *overrides)
                failed = f", exit code {code}" if code else ""
                cells.append(f"{spent:.0f} s (load {os.getloadavg()[0]:.0f}{failed})")
            yield f"| {pipeline} | {name} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure debug=fast.")
    parser.add_argument(
        "--gsm8k", type=lambda text: Path(text).resolve(), help="folder with train.jsonl and test.jsonl"
    )
    parser.add_argument(
        "--before", type=lambda text: Path(text).resolve(), help="checkout of another version"
    )
    options = parser.parse_args()
    checkouts = [path for path in (options.before, HERE) if path is not None]
    print(f"| pipeline | data | {' | '.join(['before', 'now'][-len(checkouts) :])} |")
    print("|---" * (2 + len(checkouts)) + "|")
    for row in rows(options.gsm8k, checkouts):
        print(row, flush=True)


if __name__ == "__main__":
    main()
