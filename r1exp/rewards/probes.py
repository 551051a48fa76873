"""Writes the completions that a committee is checked with: the gold answer and cheats."""

import math
from collections.abc import Mapping

from r1exp.errors import Refused
from r1exp.prompt.answer import parse_number
from r1exp.prompt.style import Style
from r1exp.records import Problem
from r1exp.rewards.base import Reward

GOLD = "gold"
_NUM_REPETITIONS = 10_000  # of two words, in the very long repetition
_SOME_REASONING = "The answer follows from the question."


def probes_of(rewards: Mapping[str, Reward], style: Style, problem: Problem) -> dict[str, str]:
    """Return the texts of all probes for one problem by name, gold first."""
    judges = [reward for reward in rewards.values() if reward.judges_correctness and reward.applies(problem)]
    answers = [reward.gold_answer(problem) for reward in judges] or [problem.answer]
    answer = next((answer for answer in answers if answer is not None), "") or ""
    gold = _written(style, str(problem.columns.get("solution") or ""), answer)
    texts = {
        GOLD: gold,
        "empty": "",
        "prompt copied": problem.prompt,
        "cut off": gold[: len(gold) // 3],
        "tags without content": _empty_answer_place(style),
        "right answer in the wrong place": _written(style, answer, _wrong_answer(answer)),
        "very long repetition": "go on " * _NUM_REPETITIONS,
    }
    for reward in rewards.values():
        if reward.applies(problem):
            texts |= {name: _written(style, "", cheat) for name, cheat in reward.cheats(problem).items()}
    return texts


def _written(style: Style, reasoning: str, answer: str) -> str:
    for attempt in (reasoning, _SOME_REASONING):
        try:
            return style.write(attempt or _SOME_REASONING, answer)
        except Refused:  # the reasoning contains the style's own tags
            continue
    return answer


def _empty_answer_place(style: Style) -> str:
    if style.tags:
        return "".join(style.tags)
    return "\\boxed{}" if style.name == "boxed" else "####"


def _wrong_answer(answer: str) -> str:
    number = parse_number(answer)
    return "nothing of the kind" if number is None else str(math.floor(number) + 1_000_003)
