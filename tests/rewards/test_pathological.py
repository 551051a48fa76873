"""Every reward scores five hundred pathological answers in bounded time."""

import random
import time
from collections.abc import Callable, Iterator

import pytest

from r1exp.judgement.judge import decided
from r1exp.prompt.settings import StyleName
from r1exp.records import Completion, Problem
from r1exp.rewards.accuracy import Accuracy
from r1exp.rewards.answer_reward import AnswerReward, read_answer
from r1exp.rewards.base import Abstain, Context, GroupReward, Reward, SlowGroupReward, SlowReward
from r1exp.rewards.committee import Committee
from r1exp.rewards.function import Function
from r1exp.rewards.graded import Graded
from r1exp.rewards.judge import Judge
from r1exp.rewards.language_consistency import LanguageConsistency
from r1exp.rewards.lengths import Cosine, Length, SoftOverlong
from r1exp.rewards.majority_vote import MajorityVote
from r1exp.rewards.reasoning_steps import ReasoningSteps
from r1exp.rewards.repetition_penalty import RepetitionPenalty
from r1exp.rewards.strict import Strict
from r1exp.rewards.tags import Format, TagCount, XmlCount
from r1exp.rewards.vote_partial import VotePartial

DEADLINE = 0.1  # seconds an item
MEGABYTE = 2**20
STYLE: StyleName = "think_answer"

ANSWERS: dict[str, Callable[[random.Random], str]] = {
    "huge exponent": lambda draw: f"{draw.randint(2, 9)}^{{{draw.randint(10, 99)}^{{{10 ** draw.randint(5, 60)}}}}}",
    "tower of powers": lambda draw: "9^{" * draw.randint(3, 300) + "9" + "}" * 300,
    "scientific": lambda draw: f"{draw.randint(1, 9)}e{draw.randint(10**3, 10**12)}",
    "nested fractions": lambda draw: "\\frac{1}{" * (n := draw.randint(5, 400)) + "2" + "}" * n,
    "thousands of digits": lambda draw: draw.choice("123456789") * draw.randint(200, 6000),
    "factorials": lambda draw: f"{draw.randint(10**4, 10**9)}!" + "!" * draw.randint(0, 40),
    "unbalanced braces": lambda draw: "".join(draw.choice("{}\\()[]$") for _ in range(draw.randint(10, 1500))),
    "control characters": lambda draw: "".join(chr(draw.randint(0, 31)) for _ in range(200)) + "\x7f\x00\u202e\ufeff",
    "half surrogates": lambda draw: "\ud800" * draw.randint(1, 50) + "42",
    "roots in roots": lambda draw: "\\sqrt{" * draw.randint(5, 200) + "2" + "}" * 200,
    "integrals": lambda draw: f"\\int_0^{{\\infty}} x^{{{draw.randint(99, 9999)}}} e^{{-x^{{x}}}} \\sin(x^x) dx",
    "sums": lambda draw: f"\\sum_{{n=1}}^{{{10 ** draw.randint(3, 30)}}} \\frac{{n!}}{{n^n}}",
    "binomials": lambda draw: f"\\binom{{{10 ** draw.randint(6, 15)}}}{{{10 ** draw.randint(5, 6)}}}",
    "signs": lambda draw: "-" * draw.randint(1, 1500) + "42",
    "commas": lambda draw: "1" + ",000" * draw.randint(1, 400),
    "sets": lambda draw: "\\{" + ",".join(str(draw.random()) for _ in range(100)) + "\\}",
    "polynomial": lambda draw: f"(x+y+z)^{{{draw.randint(50, 500)}}}",
    "boxes in boxes": lambda draw: "\\boxed{" * draw.randint(1, 300) + "42" + "}" * draw.randint(0, 300),
    "half a formula": lambda draw: draw.choice(["\\frac{", "\\frac{1}", "\\sqrt[", "^", "_{", "\\left("]) * draw.randint(1, 90),
    "digits of other scripts": lambda draw: "".join(draw.choice("٣४៥²½ⅷ㊷") for _ in range(draw.randint(1, 90))),
}  # fmt: skip
TEXTS: dict[str, Callable[[random.Random], str]] = {
    "a megabyte of digits": lambda draw: "7" * MEGABYTE,
    "a megabyte of tags": lambda draw: "<answer>" * (MEGABYTE // 8),
    "a megabyte of closed tags": lambda draw: "</think></answer>" * (MEGABYTE // 17),
    "a megabyte of boxes": lambda draw: "\\boxed{" * (MEGABYTE // 7),
    "a megabyte of numbers": lambda draw: " ".join(str(draw.randint(0, 10**6)) for _ in range(MEGABYTE // 7)),
    "a megabyte of Chinese": lambda draw: "首先我们计算" * (MEGABYTE // 18),
    "a megabyte of blanks": lambda draw: " " * MEGABYTE,
    "a megabyte of lines": lambda draw: "- \n1. \n" * (MEGABYTE // 7),
    "a megabyte of formulas": lambda draw: "\\( $ \\[ `" * (MEGABYTE // 9),
    "a megabyte of hashes": lambda draw: "####" * (MEGABYTE // 4),
}


def five_hundred() -> list[tuple[str, str]]:
    draw = random.Random(7)
    kinds = list(ANSWERS)
    answers = [(kind, ANSWERS[kind](draw)) for kind in (kinds[row % len(kinds)] for row in range(490))]
    texts = [(kind, f"<think>so</think><answer>{answer}</answer>") for kind, answer in answers]
    return [*texts, *[(kind, make(draw)) for kind, make in TEXTS.items()]]


def all_members(foreign: str) -> dict[str, Reward]:
    return {
        "accuracy": Accuracy(style=STYLE, deadline=DEADLINE),
        "boxed": Accuracy(style=STYLE, read="boxed", deadline=DEADLINE),
        "last_number": Accuracy(style=STYLE, read="last_number", deadline=DEADLINE),
        "strict": Strict(style=STYLE),
        "graded": Graded(style=STYLE),
        "vote": VotePartial(style=STYLE),
        "group_vote": VotePartial(style=STYLE, scope="group", shape="linear", tolerance=3, ties="mean"),
        "majority": MajorityVote(style=STYLE),
        "format": Format(style=STYLE),
        "format_boxed": Format(style="boxed"),
        "format_plain": Format(style="plain"),
        "tag_count": TagCount(style=STYLE),
        "xml_count": XmlCount(style=STYLE),
        "steps": ReasoningSteps(style=STYLE),
        "length": Length(judged_by="strict"),
        "cosine": Cosine(judged_by="accuracy", max_length=100),
        "overlong": SoftOverlong(limit=100, margin=20),
        "repetition": RepetitionPenalty(),
        "english": LanguageConsistency(style=STYLE),
        "chinese": LanguageConsistency(style="plain", language="zh"),
        "judge": Judge(endpoint="http://127.0.0.1:9/v1", model="m", rubric="helpful", retries=0),
        "foreign": Function(kind=f"{foreign}:at_step", deadline=DEADLINE),
    }


@pytest.fixture
def committee(foreign: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Committee]:
    monkeypatch.setattr(
        "r1exp.rewards.answer_reward.DEADLINE", DEADLINE
    )  # of members without a setting for it
    committee = Committee(all_members(foreign), num_workers=2)
    yield committee
    committee.close()


@pytest.mark.slow
def test_nothing_hangs_and_nothing_crashes(committee: Committee) -> None:
    answers = five_hundred()
    assert len(answers) == 500
    golds = ["42", r"\frac{1}{2}"]  # a number, compared here where possible; LaTeX, compared in a worker
    problems = [Problem(f"p{row // 4}", "?", golds[row // 4 % 2]) for row in range(len(answers))]
    completions = [Completion(text, max(1, len(text) // 4)) for _, text in answers]
    begin = time.monotonic()
    table = committee.score(problems, completions, Context())
    seconds = time.monotonic() - begin
    for name, scores in table.items():
        low, high = committee.rewards[name].span
        assert all(isinstance(score, Abstain) or low <= score <= high for score in scores), name
    num_timeouts = sum(score == Abstain("timeout") for scores in table.values() for score in scores)
    assert seconds < 60.0 + num_timeouts * DEADLINE


@pytest.mark.slow
def test_every_member_outside_of_workers_is_fast_on_every_single_answer(foreign: str) -> None:
    problem = Problem("p", "?", "42")
    slowest: dict[str, float] = {}
    for name, reward in all_members(foreign).items():
        if isinstance(reward, SlowGroupReward | Judge):
            continue
        for _, text in five_hundred():
            completion = Completion(text, 100)
            begin = time.perf_counter()
            if isinstance(reward, AnswerReward):
                decided(read_answer(reward.place, STYLE, text), problem.answer)
            elif isinstance(reward, SlowReward):
                reward.quick(problem, completion, Context())
            elif isinstance(reward, GroupReward):
                reward.score_group(problem, [completion, completion], Context())
            else:
                reward.score(problem, completion, Context())
            slowest[name] = max(slowest.get(name, 0.0), time.perf_counter() - begin)
    assert max(slowest.values()) < 5.0, slowest
