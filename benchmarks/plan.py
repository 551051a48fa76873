"""Measures how long `r1exp plan` and `r1exp --help` take, alone or compared with another checkout.

    python benchmarks/plan.py [overrides...]
    python benchmarks/plan.py --against /path/to/another/checkout [--pairs 11] [overrides...]

Each measurement is a new process of this interpreter. With --against the two checkouts alternate, so that both
meet the same load of the machine, and the ratio this / other is taken within each pair. The first process of each
checkout is not counted: it compiles the modules, into a temporary folder, and fills the page cache. Processor
time is the user and system time of the process; it depends less on the load of the machine than wall time. The
counts are those of one `plan`.

The bar for `plan` is a ratio of 0.6 against commit 9630a96.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Counts what Hydra does. A composition computes one defaults list, and so does a call of `compute_defaults_list`.
COUNT = """
import collections, io, json, sys
from contextlib import redirect_stdout

import hydra
from hydra.core.config_loader import ConfigLoader
from omegaconf import OmegaConf
from r1exp.__main__ import main

counts = collections.Counter()

def count(owner, name, what, wrapper=lambda call: call):
    original = getattr(owner, name)
    def call(*args, **kwargs):
        counts[what] += 1
        return original(*args, **kwargs)
    setattr(owner, name, wrapper(call))

(loader,) = ConfigLoader.__subclasses__()
count(loader, "load_configuration", "compositions")
count(loader, "compute_defaults_list", "defaults lists")
count(OmegaConf, "load", "YAML files parsed", staticmethod)
with redirect_stdout(io.StringIO()):
    assert main(sys.argv[1:]) == 0
counts["defaults lists"] += counts["compositions"]
print(json.dumps(counts))
"""


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    wall: float  # seconds
    processor: float  # seconds of user and system time


class Checkout:
    """A checkout of r1exp, whose commands run in processes of their own.

    Args:
        root: Its folder.
        folder: An empty folder to run in; compiled modules are written below it.

    Raises:
        SystemExit: Python imports r1exp from elsewhere.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._environment = {
            **inherited, "PYTHONPATH": str(root), "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        }  # fmt: skip
        found = self._output("import r1exp; print(r1exp.__file__)").strip()
        if not Path(found).resolve().is_relative_to(root):
            raise SystemExit(
                f"{root} is no checkout of r1exp: Python imports {found}; give the folder that has r1exp/ in it"
            )

    def cost(self, arguments: Sequence[str]) -> Cost:
        """Run `python -m r1exp ARGUMENTS` and return what it took."""
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "r1exp", *arguments],
            cwd=self._folder, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        with process.stderr:
            message = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)  # Popen.wait does not return the usage
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            command = " ".join(["r1exp", *arguments])
            raise SystemExit(f"{self._root}: `{command}` ended with {process.returncode}: {message}")
        return Cost(wall, usage.ru_utime + usage.ru_stime)

    def counts(self, overrides: Sequence[str]) -> dict[str, int]:
        """Return how often `plan` composes, computes a defaults list and parses a YAML file."""
        counts: dict[str, int] = json.loads(self._output(COUNT, "plan", *overrides))
        return counts

    def _output(self, program: str, *arguments: str) -> str:
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.run(
            command, cwd=self._folder, env=self._environment, check=True, capture_output=True, text=True
        ).stdout


def costs_in_turns(
    arguments: Sequence[str], checkouts: Sequence[Checkout], num_rounds: int
) -> list[list[Cost]]:
    """Return the costs of each checkout, one for each round; the order changes from round to round."""
    for checkout in checkouts:
        checkout.cost(arguments)
    costs: list[list[Cost]] = [[] for _ in checkouts]
    for number in range(num_rounds):
        places = range(len(checkouts))
        for place in places if number % 2 == 0 else reversed(places):
            costs[place].append(checkouts[place].cost(arguments))
    return costs


def spread(numbers: Sequence[float], unit: str = " s") -> str:
    """Return the median with the range."""
    return f"{statistics.median(numbers):.2f}{unit} ({min(numbers):.2f} to {max(numbers):.2f})"


def lines_of(costs: Sequence[Sequence[Cost]]) -> list[str]:
    """Return one line for each checkout and, for two, the ratio within the pairs."""
    lines = []
    for name, found in zip(("this", "other"), costs, strict=False):
        wall, processor = spread([cost.wall for cost in found]), spread([cost.processor for cost in found])
        lines.append(f"  {name:<5}  wall {wall}, processor {processor}")
    if len(costs) == 2:
        pairs = list(zip(*costs, strict=True))
        wall = spread([ours.wall / theirs.wall for ours, theirs in pairs], "")
        processor = spread([ours.processor / theirs.processor for ours, theirs in pairs], "")
        lines.append(f"  ratio  wall {wall}, processor {processor}")
    return lines


def main() -> None:
    """Measure both commands and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", type=Path, help="another checkout of r1exp")
    parser.add_argument("--pairs", type=int, default=11, help="measurements of each checkout and command")
    parser.add_argument("overrides", nargs="*", help="of `plan`; none: the quickstart")
    given = parser.parse_args()
    roots = [ROOT] if given.against is None else [ROOT, given.against.resolve()]
    with tempfile.TemporaryDirectory() as name:
        checkouts = [Checkout(root, Path(name)) for root in roots]
        for arguments in (["plan", *given.overrides], ["--help"]):
            print(f"r1exp {' '.join(arguments)}: median of {given.pairs} processes (range)")
            print("\n".join(lines_of(costs_in_turns(arguments, checkouts, given.pairs))))
        for label, checkout in zip(("this", "other"), checkouts, strict=False):
            counts = ", ".join(
                f"{number} {what}" for what, number in checkout.counts(given.overrides).items()
            )
            print(f"plan of {label}: {counts}")


if __name__ == "__main__":
    main()
