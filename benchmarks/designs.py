"""Simulates how often the intervals of planted main effects and interactions hold them, for each design.

    python benchmarks/designs.py               # 10,000 simulations a cell, about 3 min on one core
    python benchmarks/designs.py --runs 1000

Effects are planted on the chance of a right answer: main effects of 3 points, one interaction of 2 points (in designs that tell it). The
chance also varies over problems, over what each setting is to a problem, and over runs (training seeds). Answers are drawn, and the values go
through `r1exp.statistics.effects`, as those of a sweep do. "tokens" are normal with the same components, in units of ten tokens. The
cell is the coverage of all effects together, %; its standard error is at most 0.2 points.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from r1exp.statistics import designs
from r1exp.statistics.effects import Fit

Numbers = np.ndarray[Any, Any]
_BATCH = 500
DESIGNS: dict[str, tuple[Sequence[int], designs.Rows]] = {
    "full 2 x 2": ((2, 2), designs.full((2, 2))),
    "full 3 x 2": ((3, 2), designs.full((3, 2))),
    "full 2^3": ((2, 2, 2), designs.full((2, 2, 2))),
    "fractional 2^(4-1)": ((2,) * 4, designs.fractional(4, 4)[0]),
    "fractional 2^(5-1)": ((2,) * 5, designs.fractional(5, 5)[0]),
    "Plackett-Burman, 8 factors": ((2,) * 8, designs.plackett_burman(8)),
    "Latin square 3 x 3": ((3, 3, 3), designs.latin((3, 3, 3))),
}


def coverage(
    name: str,
    seeds: int,
    problems: int,
    seed_sd: float,
    problem_sd: float,
    runs: int,
    random: np.random.Generator,
) -> tuple[float, float]:
    """Return the coverage over all effects of a design, of accuracies and of lengths."""
    levels, rows = DESIGNS[name]
    has_interactions = "fractional" in name or "full" in name
    whole = [row for row in rows for _ in range(seeds)]
    fit = Fit(
        levels, whole, [str(seed) for _ in rows for seed in range(seeds)], interactions=has_interactions
    )
    truth = np.array([0.03 * sum(value > 0 for value in row) for row in rows])
    if has_interactions:
        truth = truth + np.array([0.02 * (row[0] > 0) * (row[1] > 0) for row in rows])
    expected = np.repeat(truth, seeds)
    weights = np.stack([fit.weights(contrast) for contrast in fit.contrasts])
    true_effects = weights @ expected
    held: list[list[float]] = [[], []]
    done = 0
    while done < runs:
        size = min(_BATCH, runs - done)
        done += size
        chances = _chances(size, truth, seeds, problems, seed_sd, problem_sd, random)
        lengths = chances + random.normal(0.0, 0.3, size=chances.shape)
        for place, values in enumerate(
            (random.binomial(1, np.clip(chances, 0.0, 1.0)).astype(float), lengths)
        ):
            means = values.mean(axis=-1)
            luck = fit.luck(values)
            for weight, true in zip(weights, true_effects, strict=True):
                far = fit.distances(weight, values, luck)
                held[place].append(float(np.mean(np.abs(means @ weight - true) <= far)) * size)
    each = len(weights) * runs
    return sum(held[0]) / each, sum(held[1]) / each


def _chances(
    size: int,
    truth: Numbers,
    seeds: int,
    problems: int,
    seed_sd: float,
    problem_sd: float,
    random: np.random.Generator,
) -> Numbers:
    """Return the chance of a right answer, an array (size, R, N), between 2 % and 98 % so that nothing is cut off."""
    center = random.uniform(0.25, 0.6, size=(size, 1, problems))
    by_setting = random.normal(0.0, 1.0, size=(size, len(truth), problems)) * problem_sd
    luck = random.normal(0.0, 1.0, size=(size, len(truth) * seeds, 1)) * seed_sd
    return np.asarray(center + np.repeat(truth[None, :, None] + by_setting, seeds, axis=1) + luck)


def table(runs: int, random: np.random.Generator) -> Iterator[str]:
    """Yield the table of coverages."""
    yield "| design | runs | seeds | problems | sd of seeds, points | sd of settings on a problem, points | accuracy | tokens |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, (_, rows) in DESIGNS.items():
        for seeds, problems, seed_sd, problem_sd in (
            (2, 100, 0.02, 0.0), (3, 100, 0.02, 0.03), (3, 100, 0.04, 0.03), (5, 100, 0.0, 0.0),
        ):  # fmt: skip
            found = coverage(name, seeds, problems, seed_sd, problem_sd, runs, random)
            yield (
                f"| {name} | {len(rows) * seeds} | {seeds} | {problems} | {100 * seed_sd:g} | {100 * problem_sd:g} | "
                f"{100 * found[0]:.1f} | {100 * found[1]:.1f} |"
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="simulations of a cell")
    options = parser.parse_args()
    for line in table(options.runs, np.random.default_rng(0)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
