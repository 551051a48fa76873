"""Simulates how often r1exp's 95 % intervals hold the true value, and how often its tests find a difference where there is none.

    python benchmarks/coverage.py                    # all tables, 10,000 simulations a cell, about 3 min on one core
    python benchmarks/coverage.py --runs 2000 --only seeds

Problems differ: the chance that a problem is answered correctly has a beta distribution over problems, with the mean `rate` and the
correlation rho of two answers to the same problem (0: all problems are equally hard). The simulated data go through the functions that
r1exp uses. Standard error of a cell of 10,000: 0.22 points at 95 %, 0.22 at 5 %.

Source of the beta-binomial model: J. G. Skellam (1948), JRSS B 10:257.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy.special import betaln, gammaln
from scipy.stats import betabinom, binom

from r1exp.statistics.crossed import crossed_bounds, proportion_bounds
from r1exp.statistics.intervals import Clusters, bounds
from r1exp.statistics.paired import difference_bounds, mcnemar, mid_p, p_of_changes
from r1exp.statistics.several import holm
from r1exp.statistics.student import quantile

RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 0.995)
NUMBERS = (30, 50, 100, 200, 500, 1000, 2000)  # problems
Numbers = np.ndarray[Any, Any]


def single(runs: int, random: np.random.Generator) -> Iterator[str]:
    """Yield the coverage of the interval of a proportion with one answer per problem."""
    yield from _head("One answer per problem: coverage, %", ["rate", *(f"n={n}" for n in NUMBERS)])
    for rate in RATES:
        cells = []
        for n in NUMBERS:
            low, high = bounds(np.arange(n + 1), np.full(n + 1, n))
            found = random.binomial(n, rate, size=runs)
            cells.append(_share((low[found] <= rate) & (rate <= high[found])))
        yield _row([f"{rate:g}", *cells])


def exact(runs: int, random: np.random.Generator) -> Iterator[str]:
    """Yield the exact coverage over all rates from 0.005 to 0.995: the least, the mean, and where it is above 96 %."""
    del runs, random
    rates = np.linspace(0.005, 0.995, 1981)
    heads = ["n", "least", "mean", "most", "in 94-96", "most, from 15 expected successes and failures on"]
    yield from _head("One answer per problem: exact coverage over 1,981 rates, %", heads)
    for n in NUMBERS:
        x = np.arange(n + 1)
        low, high = bounds(x, np.full(n + 1, n))
        holds = (low[:, None] <= rates) & (rates <= high[:, None])
        cover = (binom.pmf(x[:, None], n, rates) * holds).sum(axis=0)
        many = np.minimum(rates, 1 - rates) * n >= 15
        most = f"{100 * cover[many].max():.1f}" if many.any() else ""
        inside = f"{100 * ((cover >= 0.94) & (cover <= 0.96)).mean():.0f}"
        yield _row([str(n), *(f"{100 * f(cover):.1f}" for f in (np.min, np.mean, np.max)), inside, most])


def clustered(runs: int, random: np.random.Generator) -> Iterator[str]:
    """Yield the coverage of the interval of a proportion with several answers per problem."""
    yield from _head(
        "Several answers per problem: coverage, %", ["answers", "rho", "rate", *(f"n={n}" for n in NUMBERS)]
    )
    for size in (2, 4, 8):
        for rho in (0.1, 0.5):
            for rate in RATES:
                chances = _beta_binomial(size, rate, rho)
                cells = []
                for n in NUMBERS:
                    counts, times = _distinct(random.multinomial(n, chances, size=runs))
                    low, high = _sums(counts).bounds()
                    cells.append(_share(np.repeat((low <= rate) & (rate <= high), times)))
                yield _row([str(size), f"{rho:g}", f"{rate:g}", *cells])


def paired(runs: int, random: np.random.Generator) -> Iterator[str]:
    """Yield the coverage of the interval of a difference, and how often an A/A comparison is significant."""
    heads = ["answers", "rho", "before", "after", "n=30", "n=100", "n=1000"]
    yield from _head("Difference on the same problems: coverage, %", heads)
    yield from _paired(runs, random, ((0.02, 0.02, 0.0), (0.1, 0.1, 0.0), (0.5, 0.5, 0.0), (0.95, 0.95, 0.0),
                                      (0.02, 0.3, 0.2), (0.3, 0.6, 0.3)), _covers)  # fmt: skip
    yield from _head("A/A: share of p < 0.05, % (McNemar with one answer, paired t with more)", heads)
    rates = ((0.02, 0.02, 0.0), (0.1, 0.1, 0.0), (0.5, 0.5, 0.0), (0.95, 0.95, 0.0))
    yield from _paired(runs, random, rates, _rejects)


def _paired(
    runs: int,
    random: np.random.Generator,
    cases: Sequence[tuple[float, float, float]],
    judge: Callable[[Numbers, int, int, float], Numbers],
) -> Iterator[str]:
    for size in (1, 2, 8):
        for rho in (0.1, 0.5):
            for rate, other, moved in cases:
                chances = _joint(size, rate, rho, other, moved)
                true = moved * (other - rate)
                cells = []
                for n in (30, 100, 1000):
                    tables = random.multinomial(n, chances.ravel(), size=runs)
                    cells.append(_share(judge(tables.reshape(-1, size + 1, size + 1), n, size, true)))
                yield _row([str(size), f"{rho:g}", f"{rate:g}", f"{rate + true:.3g}", *cells])


def _covers(tables: Numbers, n: int, size: int, true: float) -> Numbers:
    """Return whether the interval of the difference holds the true one."""
    answers = np.arange(size + 1)
    sides = _sums(tables.sum(axis=2)), _sums(tables.sum(axis=1))
    both = np.einsum("sij,i,j->s", tables, answers, answers) - sides[0].successes * sides[1].successes / n
    squares = [side.successes_squared - side.successes**2 / n for side in sides]
    product = squares[0] * squares[1]
    correlation = np.where(product > 1e-12, both / np.sqrt(np.maximum(product, 1e-12)), 0.0)
    low, high = difference_bounds(*sides, correlation)
    return (low <= true + 1e-12) & (true <= high + 1e-12)


def _rejects(tables: Numbers, n: int, size: int, true: float) -> Numbers:
    """Return whether the p-value is below 0.05, of the test that an evaluation with so many answers uses."""
    del n, true
    answers = np.arange(size + 1)
    changes = (answers[None, :] - answers[:, None]).ravel()
    if size == 1:
        p_values = [mid_p(int(table[1, 0]), int(table[0, 1])) for table in tables]
    else:
        p_values = [p_of_changes((np.repeat(changes, table.ravel()) / size).tolist()) for table in tables]
    return np.array(p_values) < 0.05


def seeds(runs: int, random: np.random.Generator) -> Iterator[str]:
    """Yield the coverage of intervals over training seeds and problems, for 2 to 10 seeds."""
    heads = ["problems", "answers", "spread of seeds, points", "what", *(f"{n} seeds" for n in (2, 3, 5, 10))]
    yield from _head("Training seeds and problems: coverage, %", heads)
    for problems, size in ((100, 1), (300, 4)):
        for spread in (0.0, 0.02, 0.05):
            rows: dict[str, list[str]] = {
                "accuracy": [], "difference": [], "A/A: p < 0.05": [], "Student's t over seeds alone": []
            }  # fmt: skip
            for num_seeds in (2, 3, 5, 10):
                for name, hits in _crossed(runs, random, problems, size, spread, num_seeds).items():
                    rows[name].append(_share(hits))
            for name, cells in rows.items():
                yield _row([str(problems), str(size), f"{100 * spread:g}", name, *cells])


def _crossed(
    runs: int, random: np.random.Generator, problems: int, size: int, spread: float, num_seeds: int
) -> dict[str, Numbers]:
    """Return whether intervals hold the true values of two settings of 40 % and 50 %, and whether A/A tests are significant."""
    found: dict[str, list[Numbers]] = {}
    for part in np.array_split(np.arange(runs), max(1, runs * num_seeds * problems // 4_000_000)):
        shape = (len(part), num_seeds, problems)
        hard = random.beta(0.8, 1.2, size=(len(part), 1, problems))  # 40 %, with rho = 1/3
        moved = np.where(
            random.random(hard.shape) < 0.2, random.beta(1.8, 0.2, size=hard.shape), hard
        )  # 50 %
        samples = [_answers(random, each, size, spread, shape) for each in (hard, moved, hard)]
        first, second, again = samples
        low, high = proportion_bounds(first, size)
        found.setdefault("accuracy", []).append((low <= 0.4) & (high >= 0.4))
        low, high = crossed_bounds(first, size, second, size)
        found.setdefault("difference", []).append((low <= 0.1) & (high >= 0.1))
        low, high = crossed_bounds(first, size, again, size)
        found.setdefault("A/A: p < 0.05", []).append((low > 0.0) | (high < 0.0))
        means = ((second - first) / size).mean(axis=2)
        half = quantile(num_seeds - 1) * means.std(axis=1, ddof=1) / np.sqrt(num_seeds)
        found.setdefault("Student's t over seeds alone", []).append(abs(means.mean(axis=1) - 0.1) <= half)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _answers(
    random: np.random.Generator, chances: Numbers, size: int, spread: float, shape: tuple[int, ...]
) -> Numbers:
    """Return correct answers; a training seed moves every chance toward 1 or toward 0, on average by nothing."""
    luck = spread * random.standard_normal((shape[0], shape[1], 1))
    # The mean accuracy moves by `luck`: p(1 - p) / mean of p(1 - p) of the problems keeps the chances in [0, 1].
    moved = np.clip(chances + luck * chances * (1 - chances) / 0.16, 0.0, 1.0)
    return random.binomial(size, np.broadcast_to(moved, shape)).astype(float)


def several(runs: int, random: np.random.Generator) -> Iterator[str]:
    """Yield how often at least one of several A/A comparisons is significant, without and with Holm's correction."""
    yield from _head(
        "Several A/A comparisons with one baseline, 200 problems, 1 answer: at least one p < 0.05, %",
        ["comparisons", "as they are", "Holm"],
    )
    for number in (1, 3, 6, 10):
        hits = []
        for _ in range(runs // 5):
            chances = random.beta(0.5, 0.5, size=200)
            base, *others = (random.random(200) < chances for _ in range(number + 1))
            p_values = [mcnemar(base.tolist(), other.tolist()).p_value for other in others]
            hits.append((min(p_values) < 0.05, min(holm(p_values)) < 0.05))
        yield _row([str(number), *(_share(np.array(column)) for column in zip(*hits, strict=True))])


def _distinct(counts: Numbers) -> tuple[Numbers, Numbers]:
    """Return one sample of each pair of sums that decides the interval, and how many samples have it."""
    answers = np.arange(counts.shape[1])
    sums = counts @ answers * 10**9 + counts @ (answers * answers)
    _, first, times = np.unique(sums, return_index=True, return_counts=True)
    return counts[first], times


def _sums(counts: Numbers) -> Clusters:
    """Return the sums of many samples: (samples, m + 1) numbers of problems with 0 to m correct answers of m."""
    size = counts.shape[1] - 1
    answers, num = np.arange(size + 1), int(counts[0].sum())
    successes = counts @ answers
    return Clusters(num, num * size, num * size**2, successes, counts @ (answers * answers), successes * size)


def _beta_binomial(size: int, rate: float, rho: float) -> Numbers:
    chances = betabinom.pmf(np.arange(size + 1), size, rate * (1 / rho - 1), (1 - rate) * (1 / rho - 1))
    return np.asarray(chances / chances.sum())


def _joint(size: int, rate: float, rho: float, other: float, moved: float) -> Numbers:
    """Return the chances of (before, after) correct answers; a part of the problems has a new chance afterwards."""
    a, b = rate * (1 / rho - 1), (1 - rate) * (1 / rho - 1)
    k = np.arange(size + 1)
    ways = gammaln(size + 1) - gammaln(k + 1) - gammaln(size - k + 1)
    together = k[:, None] + k[None, :]
    same = np.exp(
        ways[:, None] + ways[None, :] + betaln(together + a, 2 * size - together + b) - betaln(a, b)
    )
    new = np.outer(_beta_binomial(size, rate, rho), _beta_binomial(size, other, rho))
    chances = (1 - moved) * same + moved * new
    return np.asarray(chances / chances.sum())


def _share(hits: Numbers) -> str:
    return f"{100 * np.mean(hits):.1f}"


def _head(title: str, heads: Sequence[str]) -> Iterator[str]:
    yield from ("", f"**{title}**", "", _row(heads), _row(["---"] * len(heads)))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


TABLES = {each.__name__: each for each in (single, exact, clustered, paired, seeds, several)}


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000, help="simulations of each cell")
    parser.add_argument("--only", choices=TABLES, help="one table instead of all")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name, table in TABLES.items():
        if arguments.only in (None, name):
            for line in table(arguments.runs, np.random.default_rng(arguments.seed)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
