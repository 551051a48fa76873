"""Simulates races: how often they choose wrongly, and how many runs they need beside designs with a fixed number of seeds.

    python benchmarks/races.py                     # the tables of docs/race.md; about 30 s on one core
    python benchmarks/races.py --only graded --races 200
    python benchmarks/races.py --beside runs/race/race.json    # what a fixed design would have taken instead of a race that was run

Units are points of accuracy. A run's result is the mean of its setting, plus the luck of its seed that all settings share (common random
numbers), plus luck of its own. A *false choice* is a race that is decided for a setting more than `delta` worse than the best one.

Three fixed designs give each of the K settings n seeds and name the one with the largest mean; n is found by simulation here:

    planned   the certainty that a race promises: 95 % probability of naming a setting within delta of the best, wherever the means are, so n is
              that of the least favorable means (all others delta worse than the best; Bechhofer 1954). It knows the variances, which a
              race does not. It is what one would have to plan without knowing the answer.
    told      n for the means of the scenario itself, with the race's own probability of naming a right setting (at most 99.5 %). It knows the answer.
    proved    the same, and a one-sided paired t test at 5 % (Bonferroni) shows each other setting to be at most delta better, as a race does.

Source: R. E. Bechhofer (1954), Annals of Mathematical Statistics 25:16. Fixed designs are paired too.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from r1exp.statistics.racing import Pairs, Rules, pairs_of, raced, share_of
from r1exp.terminal import show

Array = Any
Draw = Callable[[np.random.Generator, Array, int, int], Array]
DELTA, ALPHA = 1.0, 0.05  # points; probability
SHARED = 0.4  # share of a run's variance that all settings with its seed have in common
LUCK = 2.0  # points: standard deviation of the runs of a setting, as of the quickstart's settings
MOST = 40  # seeds
LONGEST = 400  # seeds of a fixed design that are tried


def normal(generator: np.random.Generator, means: Array, races: int, seeds: int, luck: Array = LUCK) -> Array:
    """Return results [races, K, seeds] with normal luck."""
    shape = (races, len(means), seeds)
    common = generator.standard_normal((races, 1, seeds)) * np.sqrt(SHARED)
    own = generator.standard_normal(shape) * np.sqrt(1 - SHARED)
    return means[:, None] + np.broadcast_to(np.asarray(luck, float).reshape(-1, 1), (len(means), 1)) * (
        common + own
    )


def unequal(generator: np.random.Generator, means: Array, races: int, seeds: int) -> Array:
    """Luck of 1 to 4 points; the best setting has the most."""
    return normal(generator, means, races, seeds, np.linspace(4.0, 1.0, len(means)))


def skewed(generator: np.random.Generator, means: Array, races: int, seeds: int) -> Array:
    """Luck with a long tail to worse results: minus a gamma distribution of shape 1, which is exponential."""
    own = (1.0 - generator.exponential(size=(races, len(means), seeds))) * np.sqrt(1 - SHARED)
    common = generator.standard_normal((races, 1, seeds)) * np.sqrt(SHARED)
    return means[:, None] + LUCK * (common + own)


def heavy(generator: np.random.Generator, means: Array, races: int, seeds: int) -> Array:
    """Luck with heavy tails on both sides: Student's t with 3 degrees of freedom, of the same variance."""
    own = generator.standard_t(3, size=(races, len(means), seeds)) / np.sqrt(3.0) * np.sqrt(1 - SHARED)
    common = generator.standard_normal((races, 1, seeds)) * np.sqrt(SHARED)
    return means[:, None] + LUCK * (common + own)


def binomial(generator: np.random.Generator, means: Array, races: int, seeds: int) -> Array:
    """Accuracies, %: one answer to each of 200 problems, which differ in difficulty and are those of every run.

    The mean of a setting over problems and seeds is 57 + its own; the luck of seeds is 1 point of the mean accuracy.
    """
    found = np.empty((races, len(means), seeds))
    for race in range(races):
        difficulty = 0.15 + 0.7 * generator.beta(1.2, 0.8, 200)
        shift = (means[:, None] + generator.standard_normal((len(means), seeds))) / 100
        chance = np.clip(difficulty + shift[..., None], 0.0, 1.0)
        found[race] = 100 * (generator.random((len(means), seeds, 200)) < chance).mean(-1)
    return found


def collapsing(generator: np.random.Generator, means: Array, races: int, seeds: int) -> Array:
    """The second setting collapses with probability 0.1 and then loses 60 points: its mean is its mode less 6 points."""
    found = normal(generator, means, races, seeds)
    collapsed = generator.random((races, seeds)) < 0.1
    found[:, 1] += 6.0 - 60.0 * collapsed
    return found


@dataclass(frozen=True)
class Scenario:
    """Means of settings, and the luck of their runs."""

    means: tuple[float, ...]  # points
    draw: Draw = normal
    about: str = ""


def _others(num: int, below: float) -> tuple[float, ...]:
    return (0.0, *[-below] * (num - 1))


SCENARIOS = {
    "equal": Scenario((0.0,) * 7, about="7 equal settings"),
    "one_best": Scenario(_others(7, 5.0), about="one of 7 is 5 points better"),
    "far": Scenario(_others(7, 10.0), about="one of 7 is 10 points better"),
    "close_second": Scenario((0.0, -0.5, *[-6.0] * 5), about="two within delta, five 6 points worse"),
    "second": Scenario((0.0, -2.0, *[-8.0] * 5), about="the second 2 points worse, five 8 points"),
    "graded": Scenario(tuple(-2.0 * i for i in range(7)), about="7 settings, each 2 points worse than the one before"),
    "spread": Scenario(tuple(float(x) for x in np.linspace(0, -20, 16)), about="16 settings over 20 points"),
    "least_favorable": Scenario(_others(7, 1.001 * DELTA), about="6 of 7 just more than delta worse"),
    "two": Scenario(_others(2, 3.0), about="two settings, 3 points apart"),
    "unequal": Scenario(_others(7, 5.0), unequal, "luck of 1 to 4 points, one best by 5"),
    "skewed": Scenario(_others(7, 5.0), skewed, "exponential luck, one best by 5"),
    "heavy": Scenario(_others(7, 5.0), heavy, "Student's t luck (3 degrees), one best by 5"),
    "binomial": Scenario(_others(7, 8.0), binomial, "200 problems x 1 answer, one best by 8"),
    "least_skewed": Scenario(_others(7, 1.001 * DELTA), skewed, "exponential luck, others just more than delta worse"),
    "least_heavy": Scenario(_others(7, 1.001 * DELTA), heavy, "Student's t luck, others just more than delta worse"),
    "least_binomial": Scenario(_others(7, 1.001 * DELTA), binomial, "200 problems, others just more than delta worse"),
    "collapsing": Scenario(_others(3, 3.0), collapsing, "one of 3 loses 60 points in every tenth run (a limit)"),
}  # fmt: skip


def right(scenario: Scenario) -> Array:
    """Return which settings are within delta of the best."""
    means = np.asarray(scenario.means)
    return means >= means.max() - DELTA


def race(scenario: Scenario, races: int, generator: np.random.Generator) -> dict[str, float]:
    """Simulate races of a scenario."""
    scores = scenario.draw(generator, np.asarray(scenario.means), races, MOST)
    rules = Rules(first=4, most=MOST, runs=10**9, delta=DELTA, alpha=ALPHA)
    pairs = pairs_of(scores, share_of(ALPHA, len(scenario.means)))
    good = right(scenario)
    runs, decided, false, named = [], 0, 0, 0
    for number, each in enumerate(scores):
        decision, counts = raced(each, Pairs(pairs.means[number], pairs.bounds[number]), rules)
        runs.append(sum(counts))
        decided += decision.state == "decided"
        false += decision.state == "decided" and not good[decision.leader]
        named += bool(good[decision.leader])
    low, high = np.quantile(runs, (0.1, 0.9))
    return {
        "decided": decided / races, "false": false / races, "named": named / races,
        "runs": float(np.mean(runs)), "runs_low": float(low), "runs_high": float(high),
    }  # fmt: skip


def fixed(
    scenario: Scenario, generator: np.random.Generator, wanted: float, *, proved: bool = False
) -> int | None:
    """Return the fewest seeds with which a fixed design names a right setting with probability `wanted`; None above 400."""
    means, good, simulated = np.asarray(scenario.means), right(scenario), 2000
    num = len(means)
    total = np.zeros((simulated, num))
    squares = np.zeros((simulated, num, num))
    for n in range(1, LONGEST + 1):
        new = scenario.draw(generator, means, simulated, 1)[..., 0]
        total += new
        first = total.argmax(1)
        correct = good[first]
        if proved:
            squares += (new[:, :, None] - new[:, None, :]) ** 2
            differences = (np.take_along_axis(total, first[:, None], 1) - total) / n
            spread = np.sqrt(
                np.maximum(squares[np.arange(simulated), first] - n * differences**2, 0) / max(n - 1, 1)
            )
            critical = stdtrit(max(n - 1, 1), 1 - share_of(ALPHA, num))
            shown = differences - critical * spread / np.sqrt(n) > -DELTA
            shown[np.arange(simulated), first] = True
            correct = correct & shown.all(1) & (n > 1)
        if correct.mean() >= wanted:
            return n
    return None


def measure(name: str, races: int, planned: dict[Any, int | None]) -> dict[str, Any]:
    """Return the row of a scenario."""
    scenario = SCENARIOS[name]
    generator = np.random.default_rng([5, *name.encode()])
    found: dict[str, Any] = {"scenario": name, "about": scenario.about, "settings": len(scenario.means)}
    found |= race(scenario, races, generator)
    num = len(scenario.means)
    worst = (num, scenario.draw)
    if worst not in planned:
        planned[worst] = fixed(Scenario(_others(num, 1.001 * DELTA), scenario.draw), generator, 1 - ALPHA)
    seeds = {
        "planned": planned[worst],
        "told": fixed(scenario, generator, min(found["named"], 0.995)),
        "proved": fixed(scenario, generator, min(found["decided"] - found["false"], 0.995), proved=True),
    }
    for kind, n in seeds.items():
        found[f"{kind}_runs"] = None if n is None else n * num
        found[f"{kind}_ratio"] = None if n is None else n * num / found["runs"]
    return found


def own_luck(settings: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Return the standard deviation of runs beside the effects of settings and seeds, and its degrees of freedom.

    Args:
        settings: Of each setting the results of its seeds, in the order of the seeds, which all settings share.
    """
    rows = [
        (setting, seed, value) for setting, each in enumerate(settings) for seed, value in enumerate(each)
    ]
    longest = max(map(len, settings))
    terms = np.zeros((len(rows), len(settings) + longest))
    for row, (setting, seed, _) in enumerate(rows):
        terms[row, [setting, len(settings) + seed]] = 1.0
    results = np.array([value for _, _, value in rows])
    fitted, _, rank, _ = np.linalg.lstsq(terms, results)
    freedom = len(rows) - int(rank)
    return float(np.sqrt(((results - terms @ fitted) ** 2).sum() / freedom)), freedom


def beside(path: Path) -> str:
    """Return what the planned fixed design of a race that was run takes, with the luck that the race's runs show."""
    found = json.loads(path.read_text(encoding="utf-8"))
    delta = 100 * found["rules"]["delta"]
    luck, freedom = own_luck(
        [[100 * each for each in setting["objectives"]] for setting in found["settings"]]
    )
    num = len(found["settings"])
    # Luck that settings share moves all means alike; the scenario is scaled to this file's delta.
    scaled = luck / delta * DELTA / np.sqrt(1 - SHARED)
    means = _others(num, 1.001 * DELTA)
    seeds = fixed(
        Scenario(means, partial(normal, luck=scaled)), np.random.default_rng(5), 1 - found["rules"]["alpha"]
    )
    planned = f"more than {LONGEST} seeds" if seeds is None else f"{seeds} seeds of each, {seeds * num} runs"
    return (
        f"{found['num_runs']} runs, {found['state']}; luck of a run beside its seed's {luck:.2f} points ({freedom} degrees of "
        f"freedom); fixed, planned, to name a setting within {delta:g} points of the best: {planned}"
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    heads = ("scenario", "false choices, %", "decided, %", "right named, %", "runs [10 %, 90 %]",
             "fixed, planned: runs (ratio)", "told", "proved")  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = [row["about"], f"{100 * row['false']:.1f}", f"{100 * row['decided']:.0f}", f"{100 * row['named']:.1f}",
                 f"{row['runs']:.0f} [{row['runs_low']:.0f}, {row['runs_high']:.0f}]"]  # fmt: skip
        for kind in ("planned", "told", "proved"):
            runs = row[f"{kind}_runs"]
            cells.append("more than 400 seeds" if runs is None else f"{runs} ({row[f'{kind}_ratio']:.1f})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", choices=sorted(SCENARIOS), help="scenario; may be repeated"
    )
    parser.add_argument("--races", type=int, default=1000, help="simulated races of each scenario")
    parser.add_argument("--output", type=Path, help="file for the rows, JSON")
    parser.add_argument("--beside", type=Path, help="race.json of a race that was run")
    options = parser.parse_args()
    if options.beside:
        show(beside(options.beside))
        return
    began = time.perf_counter()
    planned: dict[Any, int | None] = {}
    rows = [measure(name, options.races, planned) for name in options.only or SCENARIOS]
    show(table(rows))
    show(f"{options.races} races a row, {time.perf_counter() - began:.0f} s")
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
