"""Measures the accuracy reward against plain math-verify, and the time of two rewards on long texts.

    python benchmarks/rewards.py [SHARE]

Both accuracy rewards score the same completions in the same run, alternately. The plain reward does what
the accuracy rewards of TRL and open-r1 do: it parses the gold answer, parses the answer and verifies,
one completion after the other, with math-verify's own timeouts. SHARE is the share of the rows.
"""

import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import math_verify

from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.accuracy import Accuracy
from r1exp.rewards.base import Context
from r1exp.rewards.committee import Committee
from r1exp.rewards.repetition_penalty import RepetitionPenalty
from r1exp.rewards.vote_partial import VotePartial

STYLE: Final = "think_answer"
NUM_GENERATIONS = 8
NUM_ROUNDS = 5
Rows = tuple[list[Problem], list[Completion]]


def rows_of(pairs: Sequence[tuple[str, str]]) -> Rows:
    """Return problems and completions for (gold, answer) pairs; neighbors with equal gold are one prompt."""
    problems, completions = [], []
    for gold, answer in pairs:
        problems.append(Problem(f"gold {gold}", "?", gold))
        text = f"<think>\nWe add {len(gold)} and {len(answer)} and look twice.\n</think>\n<answer>{answer}</answer>"
        completions.append(Completion(text, 40))
    return problems, completions


def numeric(num_prompts: int, draw: random.Random) -> Rows:
    """Return GSM8K-like rows: integers, some with commas, some decimals; right and wrong answers."""
    pairs = []
    for _ in range(num_prompts):
        gold = draw.choice(
            [str(draw.randint(0, 999)), f"{draw.randint(1000, 99999):,}", f"{draw.randint(1, 999) / 4}"]
        )
        value = gold.replace(",", "")
        for _ in range(NUM_GENERATIONS):
            right = draw.random() < 0.5
            number = value if right else str(draw.randint(0, 9999))
            pairs.append(
                (gold, draw.choice([number, number, number, f"${number}", f"{number}.", f"{number} dollars"]))
            )
    return rows_of(pairs)


def latex(num_prompts: int, draw: random.Random) -> Rows:
    """Return MATH-like rows; half of the answers are right, a quarter of those written another way."""
    pairs = []
    for _ in range(num_prompts):
        a, b, c = (draw.randint(2, 29) for _ in range(3))
        gold, again = draw.choice(
            [
                (rf"\frac{{{a}}}{{{b}}}", rf"\dfrac{{{2 * a}}}{{{2 * b}}}"),
                (rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{b}}}\cdot {a}"),
                (rf"\frac{{{a}\pi}}{{{b}}}", rf"{a}\pi/{b}"),
                (rf"x^2+{a}x+{b}", rf"{b}+{a}x+x^2"),
                (rf"\left({a},{a + b}\right)", rf"({a},{a + b})"),
                (rf"\{{{a},{a + b}\}}", rf"\{{{a + b},{a}\}}"),
                (rf"{a}^{{{b}}}", rf"{a}^{b}" if b < 10 else rf"{a}^{{{b}}}"),
                (rf"\frac{{{a}+\sqrt{{{b}}}}}{{{c}}}", rf"\frac{{\sqrt{{{b}}}+{a}}}{{{c}}}"),
            ]
        )
        wrong = [gold.replace(str(a), str(a + step)) for step in (1, 2, 5)]
        for _ in range(NUM_GENERATIONS):
            right = draw.random() < 0.5
            pairs.append((gold, draw.choice([gold, gold, gold, again] if right else wrong)))
    return rows_of(pairs)


def plain_math_verify(problems: Sequence[Problem], completions: Sequence[Completion]) -> list[float]:
    """Score with math-verify alone."""
    style, scores = style_named(STYLE), []
    for problem, completion in zip(problems, completions, strict=True):
        gold = math_verify.parse(marked(problem.answer or ""))
        answer = math_verify.parse(marked(style.read_answer(completion.text) or ""))
        scores.append(float(math_verify.verify(gold, answer)))
    return scores


def marked(text: str) -> str:
    """Return LaTeX between dollar signs, so that math-verify reads it as a formula; other text unchanged."""
    return f"${text}$" if any(mark in text for mark in "\\^(") else text


def against_plain(name: str, make: Callable[[random.Random], Rows], target: float) -> bool:
    """Print the items per second of both and where they disagree; return whether the target is met.

    Every round has different completions, so that no score comes from a cache.
    """
    committee = Committee({"accuracy": Accuracy(style=STYLE)})
    committee.score(*latex(2, random.Random(0)), Context())  # starts the workers
    ours, plain, differing, num_rows = [], [], set(), 0
    for number in range(NUM_ROUNDS):
        problems, completions = make(random.Random(number))
        begin = time.perf_counter()
        scores = committee.score(problems, completions, Context())["accuracy"]
        between = time.perf_counter()
        reference = plain_math_verify(problems, completions)
        ours.append((between - begin) / len(problems))
        plain.append((time.perf_counter() - between) / len(problems))
        num_rows += len(problems)
        answers = [style_named(STYLE).read_answer(completion.text) for completion in completions]
        rows = zip((problem.answer for problem in problems), answers, scores, reference, strict=True)
        differing |= {row for row in rows if row[2] != row[3]}
    committee.close()
    ratio = statistics.median(b / a for a, b in zip(ours, plain, strict=True))
    rates = (
        f"{1 / statistics.median(ours):,.0f} items/s, plain math-verify {1 / statistics.median(plain):,.0f}"
    )
    print(f"{name}: {rates}; {ratio:.1f} times (target {target:g})")
    print(f"  {len(differing)} pairs of {num_rows} rows judged differently")
    for gold, answer, here, there in sorted(differing, key=str):
        print(f"    gold {gold!r} answer {answer!r}: {here} here, {there} there")
    return ratio >= target and not differing


ODD_FORMS = [
    "42", "42.0", "+42", r"\$42", "42.", "1080", "1,080", "1080.00", "1000", "1e3", "0.5", ".5", "1/2", "5e-1",
    "50%", r"50\%", "50", "1/3", "0.333333", "0.33", "-7", "7", "12345678901234567890", "12345678901234567891",
]  # fmt: skip
# A sign in the gold answer or the answer: which of the two rewards is right where they disagree.
JUDGED = {
    "e": "here: 1e3 is 1000 and 5e-1 is 0.5; math-verify reads the number e, or stops before it",
    r"\$": "here: an escaped dollar sign is a unit; math-verify finds no number",
    "+": "here: +42 is 42; math-verify finds no number",
    "%": "here: 50% equals both 50 and 0.5, escaped or not; math-verify ignores an escaped sign",
}


def odd_pairs() -> bool:
    """Print where the two disagree on pairs of unusually written numbers; return whether each is explained."""
    pairs = [(gold, answer) for gold in ODD_FORMS for answer in ODD_FORMS]
    problems, completions = rows_of(pairs)
    committee = Committee({"accuracy": Accuracy(style=STYLE)})
    scores = committee.score(problems, completions, Context())["accuracy"]
    committee.close()
    reference = plain_math_verify(problems, completions)
    differing = [
        (pair, ours, plain)
        for pair, ours, plain in zip(pairs, scores, reference, strict=True)
        if ours != plain
    ]
    print(f"odd numbers: {len(differing)} of {len(pairs)} pairs judged differently")
    unjudged = 0
    for pair, ours, plain in differing:
        verdict = next((why for sign, why in JUDGED.items() if sign in pair[0] + pair[1]), None)
        unjudged += verdict is None
        print(
            f"    gold {pair[0]!r} answer {pair[1]!r}: {ours} here, {plain} there; {verdict or 'NOT JUDGED'}"
        )
    return unjudged == 0


def linear(most: int) -> bool:
    """Print the time per word and per vote at growing sizes; return whether it stays about the same."""
    print("size        repetition us/word   vote us/completion")
    costs: list[tuple[float, float]] = []
    problem, draw = Problem("p", "?", "42"), random.Random(3)
    sizes = [size for size in (1_000, 10_000, 100_000, 1_000_000) if size <= most]
    for size in sizes:
        text = Completion(" ".join(str(draw.randint(0, 99)) for _ in range(size)), size)
        repetition = fastest(partial(RepetitionPenalty().score, problem, text, Context()))
        group = [Completion(f"<answer>{draw.randint(0, 99)}</answer>", 5) for _ in range(size // 20)]
        vote = fastest(
            partial(VotePartial(style=STYLE, scope="group").score_group, problem, group, Context())
        )
        costs.append((repetition / size * 1e6, vote / len(group) * 1e6))
        print(f"{size:>9,} {costs[-1][0]:>16.3f} {costs[-1][1]:>20.3f}")
    growth = [math.log10(last / first) for first, last in zip(costs[0], costs[-1], strict=True)]
    powers = [1.0 + step / math.log10(sizes[-1] / sizes[0]) for step in growth]
    print(
        f"  time grows with the power {powers[0]:.2f} of the words, and {powers[1]:.2f} of the votes (target 1.3)"
    )
    return max(powers) <= 1.3


def fastest(work: Callable[[], object]) -> float:
    """Return the shortest of three times, in seconds."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def main(share: float) -> int:
    """Print all figures, for `share` of the rows; return 1 if a target is missed."""
    met = [
        against_plain("numbers", partial(numeric, math.ceil(250 * share)), target=50.0),
        against_plain("LaTeX", partial(latex, math.ceil(60 * share)), target=1.6),
        odd_pairs(),
        linear(math.ceil(1_000_000 * share)),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))
