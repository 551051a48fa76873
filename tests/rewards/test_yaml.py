"""Every file in conf/rewards makes a committee that passes its own check."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from r1exp.prompt.settings import StyleName
from r1exp.records import Problem
from r1exp.rewards.base import Reward
from r1exp.rewards.check import check
from r1exp.rewards.committee import Committee
from r1exp.rewards.judge_connection import JudgeConnection

FILES = sorted((Path(__file__).parents[2] / "conf" / "rewards").glob("*.yaml"))
MUST_BE_GIVEN = {
    "group_judge": {"helpful.model": "some-model"},
    "rubric": {"rubric.model": "some-model"},
    "reward_model": {"preference.model": "some/model"},
    "judge": {"helpful.model": "some-model"},
    "all_scenarios": {"helpful.model": "some/model", "harmless.model": "some/other"},
    "helpful_harmless": {"helpful.model": "some/model", "harmless.model": "some/other"},
}
# tests/rewards/test_code.py and test_committees_on_data.py run them
NEEDS_A_MACHINE = {"code", "code_codeforces", "code_ioi"}
NEEDS_ITS_DATA = {"reasoning_gym"}  # tests/rewards/test_reasoning_gym.py
SUM = Problem("sum", "Ann has 3 apples, buys 4 and finds 5. How many?", "12", {"solution": "3+4=7. 7+5=12"})
WORDS = replace(
    SUM,
    columns={
        "solution": "We add four to three and get seven. We add five to seven and get twelve.",
        "language": "en",
        "source": "reasoning",
    },
)
FRANCE = Problem("france", "What is the capital of France?", "Paris", {"aliases": ["the city of Paris"]})
FOLLOW = {
    "instruction_id_list": ["punctuation:no_comma", "keywords:existence"],
    "kwargs": [{}, {"keywords": ["river"]}],
}
TOOLS = {
    "function": '[{"name": "add", "parameters": {"type": "dict", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}]',
    "ground_truth": '[{"add": {"a": [3]}}]',
}
PROBLEMS = {  # of files that read columns of the data
    "choice": Problem(
        "capital", "What is the capital of France?", "1", {"choices": ["Rome", "Paris", "Oslo"]}
    ),
    "function_call": Problem("add", "Add 3 to the sum.", None, TOOLS),
    "instructions": Problem("river", "Write about a river without commas.", "The river runs.", FOLLOW),
    "rubric": replace(SUM, columns={"rubric": [{"criterion": "says 12", "weight": 3.0}]}),
    "json_schema": Problem(
        "user", "Ann is 3.", '{"age": 3}', {"schema": '{"required": ["age"], "type": "object"}'}
    ),
    "match": FRANCE,
    "countdown": Problem("cd", "Make 20 from 3, 4 and 8.", "3 * 4 + 8", {"numbers": [3, 4, 8], "target": 20}),
    **dict.fromkeys(("all_scenarios", "reasoning", "reasoning_any_language"), WORDS),
    "helpful_harmless": replace(SUM, columns={**SUM.columns, "source": "math"}),
    "l1": replace(SUM, columns={**SUM.columns, "target_length": 10}),
}

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@each_file
def test_the_file_makes_a_committee(path: Path, composed: Callable[..., dict[str, Reward]]) -> None:
    assert sum(Committee(composed(path, **MUST_BE_GIVEN.get(path.stem, {}))).weights) > 0.0


@each_file
def test_the_file_begins_with_its_purpose_its_source_and_an_example(path: Path) -> None:
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(line.startswith("# Source:") for line in comment)
    assert any(line.startswith("#   r1exp ") for line in comment)


@pytest.mark.parametrize("style", ["think_answer", "reasoning_answer", "reasoning_summary", "boxed", "plain"])
@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.stem not in NEEDS_A_MACHINE | NEEDS_ITS_DATA],
    ids=lambda path: path.stem,
)
def test_gold_scores_the_maximum_and_no_cheat_does(
    path: Path, style: StyleName, composed: Callable[..., dict[str, Reward]]
) -> None:
    """No judge and no reward model is available here: the other members of their committees are checked."""
    problem = PROBLEMS.get(path.stem, SUM)
    rewards = {
        name: reward.model_copy(update={"retries": 0}) if isinstance(reward, JudgeConnection) else reward
        for name, reward in composed(path, style, **MUST_BE_GIVEN.get(path.stem, {})).items()
    }
    report = check(rewards, style, [problem])
    assert report.ok, report.text()
