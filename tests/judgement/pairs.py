"""Reads the table of pairs, and mutates them."""

import random
from pathlib import Path
from typing import NamedTuple

VERDICTS = {
    "correct": "correct",
    "wrong": "wrong",
    "unreadable": "unreadable answer",
    "gold": "unreadable gold",
}


class Pair(NamedTuple):
    """One row of pairs.txt."""

    verdict: str
    gold: str
    answer: str
    why: str


def pairs() -> list[Pair]:
    """Return the rows of pairs.txt."""
    lines = (Path(__file__).parent / "pairs.txt").read_text(encoding="utf-8").splitlines()
    rows = [Pair(*line.split(" ¦ ")) for line in lines if line and not line.startswith("#")]
    return [row._replace(verdict=VERDICTS[row.verdict]) for row in rows]


WRAPPERS = (
    "**{}**", "${}$", r"\boxed{{{}}}", "The answer is {}.", "答案是{}", "  {}\n", "{} or 7", "not {}", "{} apples", "{}%", "-{}",
    "({})", r"\text{{{}}}", "{}, {}", "{}+1", "Well, {}", "{}!", "{} \\cdot 1", "x = {}", "`{}`",
)  # fmt: skip
SIGNS = r"0123456789.,-+/\{}()[]$%^_ abcxyzé答½π" + "\u202f\u200b\t"


def mutated(row: Pair, draw: random.Random) -> str:
    """Return an answer that was changed at one to three places."""
    answer = row.answer
    for _ in range(draw.randint(1, 3)):
        place = draw.randint(0, len(answer))
        match draw.randint(0, 4):
            case 0:
                answer = answer[:place] + draw.choice(SIGNS) + answer[place:]
            case 1:
                answer = answer[:place] + answer[place + 1 :]
            case 2:
                answer = answer[:place] + draw.choice(SIGNS) + answer[place + 1 :]
            case 3:
                answer = draw.choice(WRAPPERS).replace("{}", answer).replace("{{", "{").replace("}}", "}")
            case _:
                answer = answer[place:] + answer[:place]
    return answer
