"""Compares the power that `r1exp plan -m` predicts with the power that is found: in simulations, and in 200 real runs.

    python benchmarks/power.py                                  # simulations, 2,000 a cell, about 1 min on one core
    python benchmarks/power_runs.py --output runs/power-runs    # trains the runs, about 20 core-minutes
    python benchmarks/power.py --real runs/power-runs           # pseudo-sweeps drawn from them

Simulated: the chance of a right answer varies over problems, seeds and settings as the model of `r1exp.statistics.power` says, cut off
at 0.5 % and 99.5 %; answers are drawn with it, and the outcomes go through the test that the report uses.

Real: from the runs of two settings, S seeds are drawn 2,000 times without putting back, and N problems with putting back, since other problems
are part of the luck of a sweep (all 100 without putting back would be the same ones each time), and tested. The
prediction has the difference and the components of all runs ("of all"); or it has the components that the runs of four other
seeds give, as a plan with a small earlier sweep would have, and its median and range over 40 such sweeps are shown ("from earlier").
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from r1exp.statistics.components import Table, estimated
from r1exp.statistics.crossed import crossed_bounds
from r1exp.statistics.power import Components, Size, detectable, power_of

Numbers = np.ndarray[Any, Any]
PRIOR = Components(seed=2 * 0.02**2, problem=2 * 0.05**2, rest=0.0, sampling=2 * 0.125)


def simulated(runs: int, random: np.random.Generator) -> Iterator[str]:
    """Yield predicted and found power over a grid of designs and components."""
    yield "| seeds | problems | answers | comparisons | sd of seeds | sd of problems | difference | predicted | found |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    gaps = []
    for seed_sd in (0.0, 0.02, 0.05):
        for problem_sd in (0.0, 0.1):
            for seeds, problems, samples, comparisons in (
                (1, 500, 1, 1), (2, 300, 4, 1), (3, 100, 1, 1), (3, 1000, 1, 1), (3, 300, 4, 5), (5, 200, 4, 1), (10, 300, 1, 1),
            ):  # fmt: skip
                if seeds == 1 and seed_sd:
                    continue  # with one seed two models are compared
                size = Size(seeds, problems, samples, comparisons)
                chances = random.beta(2.0, 2.0, size=2000)
                components = Components(
                    2 * seed_sd**2, 2 * problem_sd**2, 0.0, 2 * float((chances * (1 - chances)).mean())
                )
                least = detectable(components, size, 0.8)
                for share in (0.5, 1.0):
                    difference = share * min(least, 0.3)
                    predicted = power_of(difference, components, size)
                    sides = _drawn(runs, size, seed_sd, problem_sd, difference, random)
                    found = float(np.mean(_is_seen(*sides, size)))
                    gaps.append(found - predicted)
                    yield (
                        f"| {seeds} | {problems} | {samples} | {comparisons} | {100 * seed_sd:g} | {100 * problem_sd:g} | "
                        f"{100 * difference:.1f} | {100 * predicted:.0f} | {100 * found:.0f} |"
                    )
    yield f"\nFound less predicted, points: {100 * min(gaps):.1f} to {100 * max(gaps):.1f}, mean {100 * np.mean(gaps):.1f}"


def _drawn(
    runs: int, size: Size, seed_sd: float, problem_sd: float, difference: float, random: np.random.Generator
) -> tuple[Numbers, Numbers]:
    """Return right answers of both settings, arrays (runs, S, N)."""
    center = random.beta(2.0, 2.0, size=(runs, 1, size.problems))
    sides = []
    for sign in (-0.5, 0.5):
        seeds = random.normal(0.0, seed_sd, size=(runs, size.seeds, 1)) if seed_sd else 0.0
        problems = random.normal(0.0, problem_sd, size=(runs, 1, size.problems)) if problem_sd else 0.0
        chances = np.clip(center + sign * difference + seeds + problems, 0.005, 0.995)
        chances = np.broadcast_to(chances, (runs, size.seeds, size.problems))
        sides.append(random.binomial(size.samples, chances).astype(float))
    return sides[0], sides[1]


def _is_seen(first: Numbers, second: Numbers, size: Size) -> Numbers:
    """Whether the report would call each difference significant; with one seed as the paired t test does."""
    if size.seeds > 1:
        low, high = crossed_bounds(first, size.samples, second, size.samples, size.alpha)
    else:
        from scipy.stats import t

        changes = (second - first)[:, 0] / size.samples
        mean = changes.mean(axis=-1)
        half = t.isf(size.alpha / 2, size.problems - 1) * changes.std(axis=-1, ddof=1) / size.problems**0.5
        low, high = mean - half, mean + half
    return np.asarray((low > 0.0) | (high < 0.0))


def real(folder: Path, draws: int, random: np.random.Generator) -> Iterator[str]:
    """Yield predicted and found power of pseudo-sweeps drawn from real runs."""
    tables = _tables(folder)
    yield f"{sum(len(table.seeds) for table in tables)} runs: " + "; ".join(
        f"{table.setting} {100 * table.shares.mean():.1f} %" for table in tables
    )
    yield ""
    yield "| settings | difference | seeds | problems | answers | predicted, of all | found | from earlier, median (range) |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    gaps: list[float] = []
    others: list[float] = []
    for pair in combinations(tables, 2):
        for seeds, problems, samples in (
            (2, 100, 4),
            (3, 100, 1),
            (3, 50, 4),
            (5, 100, 1),
            (5, 100, 4),
            (10, 100, 1),
        ):
            size = Size(seeds, problems, samples)
            difference = float(pair[1].shares.mean() - pair[0].shares.mean())
            of_all = estimated(pair, PRIOR).components
            predicted = power_of(difference, of_all, size)
            found = _found(pair, size, draws, random)
            earlier = _from_earlier(tables, difference, size, random)
            gaps.append(found - predicted)
            others += [found - value for value in earlier]
            yield (
                f"| {pair[0].setting}, {pair[1].setting} | {100 * difference:+.1f} | {seeds} | {problems} | {samples} | "
                f"{100 * predicted:.0f} | {100 * found:.0f} | {100 * np.median(earlier):.0f} ({100 * min(earlier):.0f} to "
                f"{100 * max(earlier):.0f}) |"
            )
    yield ""
    yield (
        f"Found less predicted of all, points: {100 * min(gaps):.1f} to {100 * max(gaps):.1f}, mean {100 * np.mean(gaps):.1f}; "
        f"within 10: {sum(abs(gap) <= 0.1 for gap in gaps)} of {len(gaps)}"
    )
    yield (
        f"Found less predicted from earlier: within 10 points {100 * np.mean(np.abs(others) <= 0.1):.0f} %, "
        f"median distance {100 * np.median(np.abs(others)):.1f}"
    )


def _tables(folder: Path) -> list[Table]:
    found: dict[str, dict[int, list[list[int]]]] = {}
    for path in sorted(folder.glob("*.json")):
        setting, _, seed = path.stem.rpartition("-")
        found.setdefault(setting, {})[int(seed)] = json.loads(path.read_text())["correct"]
    tables = []
    for setting, runs in found.items():
        seeds = tuple(sorted(set.intersection(*(set(each) for each in found.values()))))
        answers = np.array([runs[seed] for seed in seeds], dtype=float)  # (S, N, K)
        tables.append(Table(setting, seeds, answers.mean(axis=-1), answers.shape[-1], "same"))
        _ANSWERS[setting] = answers
    return tables


_ANSWERS: dict[str, Numbers] = {}  # setting -> (S, N, K)


def _found(pair: Sequence[Table], size: Size, draws: int, random: np.random.Generator) -> float:
    """Return the share of pseudo-sweeps in which the difference is seen."""
    seen = []
    answers = [_ANSWERS[table.setting] for table in pair]
    number, problems, most = answers[0].shape
    for _ in range(draws):
        seeds = random.choice(number, size.seeds, replace=False)
        asked = random.choice(problems, size.problems)
        counts = []
        for side in answers:
            drawn = random.permuted(side[np.ix_(seeds, asked, np.arange(most))], axis=-1)
            counts.append(drawn[..., : size.samples].sum(axis=-1))
        seen.append(bool(_is_seen(counts[0][None], counts[1][None], size)[0]))
    return float(np.mean(seen))


def _from_earlier(
    tables: Sequence[Table], difference: float, size: Size, random: np.random.Generator
) -> list[float]:
    """Return the powers predicted from 40 earlier sweeps of two settings and four seeds."""
    found = []
    for _ in range(40):
        chosen = random.choice(len(tables), 2, replace=False)
        seeds = random.choice(len(tables[0].seeds), 4, replace=False)
        earlier = [
            Table(tables[each].setting, tuple(int(seed) for seed in seeds), tables[each].shares[seeds], tables[each].samples, "same")
            for each in chosen
        ]  # fmt: skip
        found.append(power_of(difference, estimated(earlier, PRIOR).components, size))
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="simulations of a cell")
    parser.add_argument("--real", type=Path, help="folder that benchmarks/power_runs.py wrote")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    lines = (
        simulated(options.runs, random) if options.real is None else real(options.real, options.runs, random)
    )
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
