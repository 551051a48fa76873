"""Measures the judge of answers against plain math-verify, in one run, and how its time grows.

    python benchmarks/judgement.py [SHARE] [GSM8K_FOLDER]

Both score the same completions, alternately. The plain reward parses the gold answer, parses the answer in its place and
verifies, one completion after the other, as the accuracy rewards of TRL and open-r1 do. The time of the judge includes the
start of its worker processes, and nothing is in its caches when a round begins. SHARE is the share of the rows.
GSM8K_FOLDER holds train.jsonl; its gold answers are used, else drawn ones.
"""

import json
import math
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import rewards as plain_rewards

from r1exp.judgement import choices, formatting, formulas, judge, reading, words
from r1exp.rewards.accuracy import Accuracy
from r1exp.rewards.base import Context
from r1exp.rewards.bounded_judge import AnswerJudge
from r1exp.rewards.committee import Committee

NUM_ROUNDS = 3
NUM_GENERATIONS = 8
# How models write a number in the place of the answer.
FORMS = (
    "{}", "{}", "{}", "{}.", "${}", "{} dollars", "{} apples", "**{}**", r"\boxed{{{}}}", "${}$", "The answer is {}.",
    "{} per day", "She pays {} in total.", r"\text{{{}}}", "{}.00", "Answer: {}",
)  # fmt: skip
Pairs = list[tuple[str, str]]  # gold answer, answer


def numbers(golds: list[str], num_rows: int, draw: random.Random) -> Pairs:
    """Return numbers as models write them, half of them right."""
    pairs = []
    for _ in range(math.ceil(num_rows / NUM_GENERATIONS)):
        gold = draw.choice(golds)
        for _ in range(NUM_GENERATIONS):
            number = gold if draw.random() < 0.5 else f"{draw.randint(0, 9999)}"
            pairs.append((gold, draw.choice(FORMS).format(number)))
    return pairs[:num_rows]


def latex(num_rows: int, draw: random.Random) -> Pairs:
    """Return formulas as in MATH; half of the answers are right, half of those written another way."""
    pairs = []
    for _ in range(math.ceil(num_rows / NUM_GENERATIONS)):
        a, b, c, d = (draw.randint(2, 997) for _ in range(4))
        gold, again = draw.choice(
            [
                (rf"\frac{{{a}}}{{{b}}}", rf"\dfrac{{{2 * a}}}{{{2 * b}}}"),
                (rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{b}}}\cdot {a}"),
                (rf"\frac{{{a}\pi}}{{{b}}}", rf"{a}\pi/{b}"),
                (rf"x^2+{a}x+{b}", rf"{b}+{a}x+x^2"),
                (rf"\left({a},{a + b}\right)", rf"({a}, {a + b})"),
                (rf"\{{{a},{a + b}\}}", rf"\{{{a + b},{a}\}}"),
                (rf"\frac{{{a}+\sqrt{{{b}}}}}{{{c}}}", rf"\frac{{\sqrt{{{b}}}+{a}}}{{{c}}}"),
                (rf"[{a},\infty)", rf"x \ge {a}"),
                (rf"{a}p - {b}q", rf"-{b}q + {a}p"),
                (rf"y = {a}x - {b}", rf"{a}x - y = {b}"),
                (
                    rf"\begin{{pmatrix}}{a}&{b}\\{c}&{d}\end{{pmatrix}}",
                    rf"\begin{{bmatrix}} {a} & {b} \\ {c} & {d} \end{{bmatrix}}",
                ),
                (rf"{a}+{b}i", rf"{b}i + {a}"),
                (rf"{a}\%", f"{a} percent"),
                (rf"{a}^\circ", f"{a} degrees"),
                (rf"(-\infty,{a})\cup({a + b},\infty)", rf"({a + b},\infty) \cup (-\infty,{a})"),
                (rf"{a},\!{b + 100:03d}", f"{a}{b + 100:03d}") if b < 900 else (f"{a}", f"{a}.0"),
            ]
        )
        wrong = [gold.replace(str(a), str(a + step)) for step in (1, 2, 5)]
        for _ in range(NUM_GENERATIONS):
            right = draw.random() < 0.5
            pairs.append((gold, draw.choice([gold, again] if right else wrong)))
    return pairs[:num_rows]


def forget() -> None:
    """Empty every cache of the judge."""
    for module in (choices, formatting, formulas, judge, reading, words):
        for value in vars(module).values():
            if callable(getattr(value, "cache_clear", None)):
                value.cache_clear()


def seconds_of_judge(pairs: Pairs) -> tuple[float, list[float]]:
    """Return the seconds and the scores of the reward, from no process to the last score."""
    problems, completions = plain_rewards.rows_of(pairs)
    forget()
    begin = time.perf_counter()
    committee = Committee({"accuracy": Accuracy(style=plain_rewards.STYLE)})
    scores = committee.score(problems, completions, Context())["accuracy"]
    seconds = time.perf_counter() - begin
    committee.close()
    return seconds, [score if isinstance(score, float) else math.nan for score in scores]


def against_plain(name: str, make: Callable[[random.Random], Pairs], target: float) -> bool:
    """Print how many times faster the judge is, and where the two differ; return whether the target is met."""
    ratios, ours, plain = [], [], []
    differing: Counter[str] = Counter()
    num_rows = num_by_math_verify = 0
    for number in range(NUM_ROUNDS):
        pairs = make(random.Random(number))
        seconds, scores = seconds_of_judge(pairs)
        problems, completions = plain_rewards.rows_of(pairs)
        begin = time.perf_counter()
        reference = plain_rewards.plain_math_verify(problems, completions)
        taken = time.perf_counter() - begin
        ours.append(len(pairs) / seconds)
        plain.append(len(pairs) / taken)
        ratios.append(taken / seconds)
        num_rows += len(pairs)
        num_by_math_verify += sum(judge.decided(answer, gold) is None for gold, answer in pairs)
        differing.update(
            f"gold {gold!r} answer {answer!r}: {here} here, {there} there"
            for (gold, answer), here, there in zip(pairs, scores, reference, strict=True)
            if here != there
        )
    ratio = statistics.median(ratios)
    rates = f"{statistics.median(ours):,.0f} items/s, plain math-verify {statistics.median(plain):,.0f}"
    print(
        f"{name}: {rates}; {ratio:.1f} times (target {target:g}); {num_by_math_verify} rows asked math-verify"
    )
    print(f"  {differing.total()} of {num_rows} rows judged differently, for example")
    for line, _ in list(differing.items())[:6]:
        print(f"    {line}")
    return ratio >= target


def linear(make: Callable[[int, random.Random], Pairs], most: int) -> bool:
    """Print the time per row at growing sizes; return whether it stays about the same."""
    sizes = [size for size in (1_000, 10_000, 100_000) if size <= most]
    costs = [seconds_of_judge(make(size, random.Random(size)))[0] / size * 1e6 for size in sizes]
    for size, cost in zip(sizes, costs, strict=True):
        print(f"{size:>9,} rows: {cost:.1f} us each")
    power = 1.0 + math.log10(costs[-1] / costs[0]) / max(math.log10(sizes[-1] / sizes[0]), 1e-9)
    print(f"  time grows with the power {power:.2f} of the rows (target 1.1)")
    return len(sizes) == 1 or power <= 1.1


def attacks() -> bool:
    """Print the verdict and the seconds of answers that are made to take for ever, against gold 42."""
    answers = ["9^{9^{9^{9}}}", "(1+x)^{10000}", "100000000!", r"\sum_{n=1}^{10^{12}} \frac{1}{n}", r"\int_0^1 x^{x^{x}} dx",
               r"\lim_{x \to 0} \frac{\sin(x^{x^{x}})}{x}", "9^{" * 30 + "9" + "}" * 30]  # fmt: skip
    judging = AnswerJudge()
    is_met = True
    for answer in answers:
        begin = time.perf_counter()
        (found,) = judging.judge([(answer, "42")])
        seconds = time.perf_counter() - begin
        is_met &= not found.is_correct and found.verdict != "unreadable gold"
        print(f"  {answer[:44]:<44} {found.verdict}, {found.how}, {seconds:.2f} s")
    judging.close()
    return is_met


def golds_of(folder: Path | None) -> list[str]:
    """Return the gold answers of GSM8K, or drawn ones."""
    if folder is not None:
        lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["answer"].rpartition("####")[2].strip() for line in lines]
    draw = random.Random(1)
    return [draw.choice(["{}", "{:,}"]).format(draw.randint(0, 99999)) for _ in range(7473)]


def main(share: float, folder: Path | None) -> int:
    """Print all figures; return 1 if a target is missed."""
    golds = golds_of(folder)
    in_text = "numbers in text, gold answers of GSM8K" if folder else "numbers in text"
    met = [
        against_plain(in_text, partial(numbers, golds, math.ceil(4000 * share)), 50.0),
        against_plain("LaTeX", partial(latex, math.ceil(1000 * share)), 3.0),
        linear(latex, math.ceil(100_000 * share)),
        attacks(),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main(float(given[0]) if given else 1.0, Path(given[1]) if len(given) > 1 else None))
