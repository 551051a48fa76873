"""Every row of the table in docs/rewards.md agrees with the code."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from r1exp.records import Completion, Problem
from r1exp.rewards.base import Abstain, Context, GroupReward, JudgedReward, Reward
from r1exp.rewards.group_judge import GroupJudge
from r1exp.rewards.judge import Judge
from r1exp.rewards.menu import REWARDS, RewardSettings
from r1exp.rewards.reward_model import RewardModel
from r1exp.rewards.rubric import Rubric
from r1exp.sandbox.local import Local

DOC = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([\w.:]+)` \| (.+?) \| (.+?) \| (.+?) \| (`+)(.+?)\5 \|$", DOC, re.MULTILINE)
KINDS = [*REWARDS.kinds(), "function"]
NEEDS_A_SANDBOX = {"code", "binary_code"}
NOW = Context()


def kind_of(name: str) -> str:
    return "function" if ":" in name else name


def test_every_kind_has_its_row() -> None:
    assert sorted(kind_of(name) for name, *_ in ROWS) == sorted(KINDS)


def made(name: str, settings: dict[str, Any]) -> Reward:
    return TypeAdapter(RewardSettings).validate_python({"kind": name, **settings})


def one(item: Any) -> Completion:
    if isinstance(item, str):
        return Completion(item, 10)
    return Completion(item.get("text", ""), item["tokens"])


def scored(reward: Reward, problem: Problem, given: Any) -> Any:
    if isinstance(reward, RewardModel):
        return reward.normalized(given["logit"])
    if isinstance(reward, Judge):
        return reward.read(given["reply"])
    if isinstance(reward, GroupJudge):
        return reward.read(given["reply"], given["replies"])
    if isinstance(reward, Rubric):
        criteria = reward.criteria(problem)
        assert not isinstance(criteria, Abstain)
        return reward.read(given["reply"], criteria)
    if isinstance(reward, JudgedReward):
        return reward.score_problem(
            problem, [one(item) for item in given], [item["right"] for item in given], NOW
        )
    if isinstance(reward, GroupReward):
        return reward.score_group(problem, [one(item) for item in given], NOW)
    return reward.score(problem, one(given), NOW)


@pytest.mark.parametrize(
    ("name", "span", "example"), [(row[0], row[2], row[5]) for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_the_example_of_the_row_is_what_the_code_returns(name: str, span: str, example: str) -> None:
    if name in NEEDS_A_SANDBOX and Local().check() is not None:
        pytest.skip("no sandbox on this machine")
    parts, expected = example.rsplit(" -> ", 1)
    settings, *columns, given = parts.split("; ")
    texts = dict(part.split(" ", 1) for part in columns)
    problem = Problem("p", "?", texts.get("gold"), yaml.safe_load(texts.get("columns", "{}")))
    reward = made(name, yaml.safe_load(settings))
    low, high = (-math.inf, math.inf) if span == "unbounded" else map(float, span.split(" to "))
    assert reward.span == (pytest.approx(low), pytest.approx(high))
    if yaml.safe_load(given) is not None:
        assert scored(reward, problem, yaml.safe_load(given)) == pytest.approx(
            yaml.safe_load(expected), abs=1e-4
        )
