"""Measures what a million rows cost: seconds and peak memory of counting them, and of reading the first thousand.

    python benchmarks/data.py [--rows 1000000]

Every measurement is a process of its own. The files are written to a temporary folder: JSON lines, and Parquet.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from r1exp.assets import CONF
from r1exp.dataset.hf import Hf


def measure(path: Path, limit: int | None) -> str:
    """Return a row of the table: read the problems of `path` in this process."""
    values = yaml.safe_load((CONF / "dataset" / "hf.yaml").read_text(encoding="utf-8"))
    data = Hf.model_validate_json(json.dumps(values | {"path": str(path), "limit": limit}), strict=True)
    start = time.perf_counter()
    number = sum(1 for _ in data.stream("train"))
    seconds = time.perf_counter() - start
    # Not `ru_maxrss`, which a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024  # MiB
    return f"{path.suffix:<9} {limit or 'all':>7} {number:>9,} {seconds:>8.1f} {peak:>8.0f}"


def write(folder: Path, num_rows: int) -> list[Path]:
    """Write the same rows in both formats."""
    import pyarrow.json  # it has no type hints
    from pyarrow import parquet

    lines = folder / "rows.jsonl"
    with lines.open("w") as file:
        for number in range(num_rows):
            row = {
                "question": f"Ada has {number} apples and gets {number % 97} more. How many apples does Ada have now?"
            }
            row |= {
                "answer": str(number + number % 97),
                "solution": f"{number}+{number % 97}={number + number % 97}",
            }
            file.write(json.dumps(row) + "\n")
    parquet.write_table(pyarrow.json.read_json(lines), folder / "rows.parquet")
    return [lines, folder / "rows.parquet"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--measure", nargs=2, metavar=("FILE", "LIMIT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        path, limit = arguments.measure
        print(measure(Path(path), int(limit) or None))
        return
    print(f"{'format':<9} {'limit':>7} {'problems':>9} {'seconds':>8} {'peak MiB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for path in write(Path(folder), arguments.rows):
            for limit in (1000, 0):
                command = [sys.executable, __file__, "--measure", str(path), str(limit)]
                print(
                    subprocess.run(command, check=True, capture_output=True, text=True).stdout,
                    end="",
                    flush=True,
                )


if __name__ == "__main__":
    main()
