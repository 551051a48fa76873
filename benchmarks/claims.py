"""Tests published claims about RL for reasoning on the tiny model, and keeps the table of docs/claims.md.

    make claims CLAIM=clip_higher            # or: python benchmarks/claims.py clip_higher [NAME ...]
    python benchmarks/claims.py --write      # the table of docs/claims.md from the results that there are

A claim is a file claims/NAME.yaml: the paper and its sentence, one or two arms of overrides, the seeds, what is measured, and the rule
of the verdict. Every arm is a sweep over the seeds, `r1exp -m ... seed=1,2,3,4`, and all share a step store, so that the SFT of a seed is
trained once and an arm of two claims is run once. A command that was killed goes on where it ended.

With d the difference of a seed, treatment less control (or the one arm's change), and [low, high] Student's 95 % interval of its mean:

    claim         holds            fails
    higher        low > 0          high < margin     (and not low > 0)
    lower         high < 0         low > -margin     (and not high < 0)
    not_lower     low > -margin    high < -margin

and undecided otherwise. The margin is the smallest difference that would matter. The result is claims/results/NAME.json.
"""

import argparse
import ctypes
import fcntl
import hashlib
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

import yaml
from pydantic import Field, PositiveFloat, field_validator

from r1exp.files import read_json_object, write_json
from r1exp.settings import Settings
from r1exp.statistics.intervals import mean_interval
from r1exp.statistics.student import quantile

ROOT = Path(__file__).parents[1]
CLAIMS = ROOT / "claims"
PAGE = ROOT / "docs" / "claims.md"
MARKS = {name: (f"<!-- {name} -->", f"<!-- end of {name} -->") for name in ("claims", "ablation")}
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_PATIENCE = 60.0  # seconds for which processes that outlive a command are waited for
Verdict = Literal["holds", "fails", "undecided"]


class Claim(Settings):
    """A published claim and its test: claims/NAME.yaml."""

    paper: str  # short name and section
    arxiv: str | None  # None: a source document of r1exp
    sentence: str  # what it says, in our words
    test: str  # how it is tested here
    treatment: list[str]  # overrides of the arm that the claim is about
    control: list[str] | None  # overrides of the arm beside it; None: the measure itself is a change
    seeds: int = Field(ge=2)  # 1 to this number
    measure: str  # one of MEASURES
    direction: Literal["higher", "lower", "not_lower"]
    margin: PositiveFloat  # smallest difference that would matter, in the unit of the measure

    @field_validator("measure")
    @classmethod
    def _is_known(cls, measure: str) -> str:
        if measure not in MEASURES:
            raise ValueError(f"measure: {measure}; give one of: {', '.join(MEASURES)}")
        return measure

    def arms(self) -> dict[str, list[str]]:
        """Return the overrides of each arm, the control first."""
        control = {} if self.control is None else {"control": self.control}
        return {**control, "treatment": self.treatment}

    def design(self) -> dict[str, Any]:
        """Return what decides the result: all but the texts."""
        return self.model_dump(exclude={"paper", "arxiv", "sentence", "test"})

    def verdict(self, low: float, high: float) -> Verdict:
        """Return what the interval of the difference says, by the rule of the module's docstring."""
        if self.direction == "not_lower":
            return "holds" if low > -self.margin else "fails" if high < -self.margin else "undecided"
        if self.direction == "lower":
            low, high = -high, -low
        return "holds" if low > 0.0 else "fails" if high < self.margin else "undecided"


def claim_of(name: str) -> Claim:
    """Return the claim of claims/NAME.yaml.

    Raises:
        SystemExit: there is none.
    """
    path = CLAIMS / f"{name}.yaml"
    if not path.exists():
        raise SystemExit(f"claims: there is no {name!r}; give one of: {', '.join(names())}")
    return Claim.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def names() -> list[str]:
    """Return the claims in the order of their names."""
    return sorted(path.stem for path in CLAIMS.glob("*.yaml"))


def command(arm: Sequence[str], seeds: int) -> list[str]:
    """Return what follows `r1exp` in the command of an arm, without the folders."""
    return ["-m", *arm, f"seed={','.join(map(str, range(1, seeds + 1)))}"]


def _rows(step: Path, key: str) -> list[dict[str, Any]]:
    """Return the logged rows with a key."""
    lines = (step / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if key in row]


def _accuracies(step: Path, decoding: str) -> list[float]:
    key = f"eval/validation/{decoding}/accuracy"
    return [100.0 * row[key] for row in _rows(step, key)]


def _gain(step: Path, decoding: str) -> float:
    first, *_, last = _accuracies(step, decoding)
    return last - first


def _third(step: Path, key: str, which: int) -> float:
    """Return the mean over the first (0), second or last (2) third of the logged optimizer steps."""
    values = [row[key] for row in _rows(step, key)]
    size = len(values) // 3
    return fmean(values[:size] if which == 0 else values[-size:])


def _change(step: Path, key: str) -> float:
    """Return the mean over the last third of the logged optimizer steps less that over the first."""
    return _third(step, key, 2) - _third(step, key, 0)


def _wrong_length(step: Path) -> float:
    """Return the mean number of tokens of wrong answers that were not cut, in the last third of the kept completions."""
    files = sorted((step / "completions").glob("*.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    last = max(row["step"] for row in rows)
    return fmean(
        row["tokens"] for row in rows if row["rewards"]["strict"] == 0.0 and 3 * row["step"] > 2 * last
    )


MEASURES: dict[str, tuple[str, Callable[[Path], float]]] = {
    "accuracy": ("points", lambda step: _accuracies(step, "sampled")[-1]),
    "accuracy_gain": ("points", lambda step: _gain(step, "sampled")),
    "sharpening": ("points", lambda step: _gain(step, "sampled") - _gain(step, "greedy")),
    "entropy": ("nats a token", lambda step: _third(step, "entropy", 2)),
    "entropy_change": ("nats a token", lambda step: _change(step, "entropy")),
    "length_change": ("tokens", lambda step: _change(step, "completions/mean_length")),
    "signal_change": ("points", lambda step: 100.0 * _change(step, "groups_with_signal")),
    "wrong_length": ("tokens", _wrong_length),
}


@dataclass(frozen=True)
class Arm:
    """A sweep over the seeds, run."""

    values: list[float]  # the measure, by seed
    core_minutes: float  # processor time, of the command that computed it


def run_arm(name: str, arm: list[str], claim: Claim, folder: Path, parallel: int) -> Arm:
    """Run one arm, or take what is finished of it.

    Raises:
        SystemExit: a member failed.
    """
    place = (
        folder / hashlib.sha256(json.dumps(arm).encode()).hexdigest()[:12]
    )  # the same for claims with this arm
    place.mkdir(parents=True, exist_ok=True)
    lock = (place / "lock").open("a")  # another claim with this arm waits; unlocked when this process ends
    fcntl.flock(lock, fcntl.LOCK_EX)
    words = [
        *command(arm, claim.seeds),
        f"sweep.parallel={parallel}",
        f"hydra.sweep.dir={place}",
        f"paths.store={folder / 'store'}",
    ]
    print(f"{name}: r1exp {shlex.join(words)}", file=sys.stderr, flush=True)
    code, seconds = run_counted([sys.executable, "-m", "r1exp", *words])
    if code:
        raise SystemExit(f"claims: {name} ended with exit code {code}; see r1exp sweep status {place}")
    spent = place / "core-minutes.json"  # a command that is typed again finds everything finished
    minutes = read_json_object(spent).get("core_minutes", 0.0) + seconds / 60.0
    write_json(spent, {"core_minutes": minutes})
    num_members = sum(
        path.name.isdigit() for path in place.iterdir()
    )  # a claim with more seeds may have this arm too
    steps = [
        max((place / str(seed) / "steps").iterdir(), key=lambda path: path.name)
        for seed in range(claim.seeds)
    ]
    lock.close()
    return Arm([MEASURES[claim.measure][1](step) for step in steps], minutes * claim.seeds / num_members)


def run_counted(command: Sequence[str]) -> tuple[int, float]:
    """Run a command without its output, and return its exit code and the processor seconds of all its processes.

    Steps are forked from servers that end shortly after the command (docs/processes.md). Only time of processes that were waited for is
    counted, so orphans become children of this process, and are waited for.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = _processor_time()
    code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    give_up = time.monotonic() + _PATIENCE
    with suppress(ChildProcessError):
        while time.monotonic() < give_up:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.05)
    return code, _processor_time() - before


def _processor_time() -> float:
    """Return the processor seconds of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def result_of(claim: Claim, arms: dict[str, Arm]) -> dict[str, Any]:
    """Return the values of each seed, their difference with its interval, and the verdict."""
    treatment = arms["treatment"].values
    control = arms["control"].values if "control" in arms else [0.0] * len(treatment)
    interval = mean_interval([[b - a] for a, b in zip(control, treatment, strict=True)])
    return {
        "design": claim.design(),
        "arms": {
            name: {"values": arm.values, "core_minutes": round(arm.core_minutes, 1)}
            for name, arm in arms.items()
        },
        "difference": interval.value,
        "low": interval.low,
        "high": interval.high,
        "verdict": claim.verdict(interval.low, interval.high),
        "core_minutes": round(sum(arm.core_minutes for arm in arms.values()), 1),
    }


def results() -> dict[str, dict[str, Any]]:
    """Return the results that there are, by claim.

    Raises:
        SystemExit: a claim has another design than its result.
    """
    found = {}
    for name in names():
        path = CLAIMS / "results" / f"{name}.json"
        if path.exists():
            found[name] = read_json_object(path)
            if found[name]["design"] != claim_of(name).design():
                raise SystemExit(
                    f"claims: claims/{name}.yaml has another design than its result; type make claims CLAIM={name}"
                )
    return found


def row_of(name: str, result: dict[str, Any]) -> str:
    """Return the line of a claim in the table of docs/claims.md."""
    claim = claim_of(name)
    unit = MEASURES[claim.measure][0]
    sign = {"higher": "> 0", "lower": "< 0", "not_lower": f"> -{claim.margin:g}"}[claim.direction]
    source = claim.paper if claim.arxiv is None else f"{claim.paper} (arXiv:{claim.arxiv})"
    cells = [
        f"`make claims CLAIM={name}`",
        source,
        claim.sentence,
        f"{claim.test}: {' against '.join(f'`{shlex.join(arm)}`' for arm in reversed(claim.arms().values()))}",
        str(claim.seeds),
        f"{claim.measure} {sign}; {claim.margin:g} {unit} would matter",
        f"**{result['verdict']}**",
        interval_text(result, unit),
        f"{result['core_minutes']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def interval_text(result: dict[str, Any], unit: str) -> str:
    """Return a difference with its interval, as the tables show it."""
    digits = 1 if unit == "points" else 3
    return f"{result['difference']:+.{digits}f} [{result['low']:+.{digits}f}, {result['high']:+.{digits}f}] {unit}"


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the table of the claims that have a result, and the names of those that have none."""
    head = [
        "command",
        "source",
        "it says",
        "test here",
        "seeds",
        "holds if",
        "verdict",
        "difference, 95 % interval",
        "core-minutes",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [row_of(*each) for each in found.items()]
    waiting = [f"`{name}`" for name in names() if name not in found]
    return "\n".join(
        lines + (["", f"Written down and not run yet: {', '.join(waiting)}."] if waiting else [])
    )


def ablation(found: dict[str, dict[str, Any]]) -> str:
    """Return the table of sweeps/reward_ablation_2x2.yaml, whose four settings are the arms of two claims; empty without them."""
    pairs = ("partial_credit", "partial_credit_after_sft")
    if not found.keys() >= set(pairs):
        return ""
    alone, after = (
        [found[name]["arms"][arm]["values"] for arm in ("control", "treatment")] for name in pairs
    )
    per_seed = list(zip(*alone, *after, strict=True))  # strict, partial; after SFT: strict, partial
    contrasts = {
        "partial credit less strict, without SFT": [b - a for a, b, _, _ in per_seed],
        "partial credit less strict, after SFT": [d - c for _, _, c, d in per_seed],
        "partial credit less strict, mean of both": [(b - a + d - c) / 2 for a, b, c, d in per_seed],
        "SFT first less GRPO alone, mean of both rewards": [(c + d - a - b) / 2 for a, b, c, d in per_seed],
        "what SFT first adds to the effect of partial credit": [d - c - b + a for a, b, c, d in per_seed],
    }
    lines = [
        "| | strict | vote_partial |", "|---|---|---|",
        *(
f"| {label} | {_cell(cells[0])} | {_cell(cells[1])} |"
            for label, cells in (("GRPO alone", alone), ("SFT first, then GRPO", after))
        ),
        "", "| contrast | points, 95 % interval over seeds | seeds that 3 points need |", "|---|---|---|",
    ]  # fmt: skip
    for label, values in contrasts.items():
        interval = mean_interval([[value] for value in values])
        shown = {"difference": interval.value, "low": interval.low, "high": interval.high}
        lines.append(f"| {label} | {interval_text(shown, 'points')} | {seeds_needed(stdev(values), 3.0)} |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    """Return the mean over seeds, their standard deviation, the lowest and the highest value."""
    return f"{fmean(values):.1f} (sd {stdev(values):.1f}; {min(values):.1f} to {max(values):.1f})"


def seeds_needed(spread: float, difference: float, power: float = 0.8) -> int:
    """Return how many seeds a paired t test at 5 % needs to find a difference with that power.

    Args:
        spread: Standard deviation over seeds of the paired difference.
        difference: What is to be found, in the same unit.
        power: Probability of finding it.
    """
    from scipy.stats import nct

    for num in range(2, 10_000):
        center = difference / spread * num**0.5 if spread > 0.0 else float("inf")
        if center == float("inf") or nct.sf(quantile(num - 1), num - 1, center) >= power:
            return num
    return 10_000


def with_tables(page: str) -> str:
    """Return the page with the tables of the results that there are between their marks."""
    found = results()
    for name, text in (("claims", table(found)), ("ablation", ablation(found))):
        begin, end = MARKS[name]
        start, _, rest = page.partition(begin)
        page = f"{start}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"
    return page


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="claims; none with --write: only the table")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/claims"), help="of the runs and their store"
    )
    parser.add_argument("--parallel", type=int, default=4, help="members at once")
    parser.add_argument("--write", action="store_true", help="write the table of docs/claims.md")
    given = parser.parse_args()
    for name in given.names:
        claim = claim_of(name)
        arms = {
            arm: run_arm(f"{name}, {arm}", overrides, claim, given.folder, given.parallel)
            for arm, overrides in claim.arms().items()
        }
        result = result_of(claim, arms)
        write_json(CLAIMS / "results" / f"{name}.json", result)
        print(row_of(name, result), flush=True)
    if not given.names:
        print(table(results()))
    if given.write:
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
