"""Committees with the data that they are for: `r1exp check` as it is typed, and programs in a real sandbox."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1exp.__main__ import main
from r1exp.records import Completion, Problem
from r1exp.rewards.base import NOT_APPLICABLE, Abstain, BatchScorer, Context, Reward, Score
from r1exp.rewards.committee import Committee
from r1exp.sandbox.local import Local

CONF = Path(__file__).parents[2] / "conf" / "rewards"
needs_sandbox = pytest.mark.skipif(Local().check() is not None, reason="no sandbox on this machine")
CODEFORCES = {
    "id": "1/A", "time_limit": 2.0, "memory_limit": 256.0, "interaction_format": None, "input_mode": "stdio",
    "official_tests": [{"input": "1 2\n", "output": "3\n"}, {"input": "4 5\n", "output": "9\n"}],
    "generated_checker": None, "generated_tests": 0, "prompt": "Add two numbers, in Python.", "language": "python",
}  # fmt: skip
GRADER = '#include <cstdio>\n#include "add.h"\nint main() { int a, b; if (scanf("%d %d", &a, &b) != 2) return 1; printf("%d\\n", add(a, b)); }\n'
FILES = [["graders/grader.cpp", GRADER], ["graders/add.h", "int add(int a, int b);"]]
IOI = {
    "year": 2024, "id": "add", "score": 40, "time_limit": 4.0, "memory_limit": 256 << 20, "task_type": "Batch",
    "test_names": ["1-01", "1-02"], "grader_files": FILES, "problem": "Write add().", "statement": "Everything.",
}  # fmt: skip
IOI_TESTS = [
    {"problem_id": "add", "test_name": name, "test_input": given, "test_output": expected}
    for name, given, expected in (("1-01", "1 2", "3"), ("1-02", "2 2", "4"))
]


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


@needs_sandbox
@pytest.mark.slow
def test_code_codeforces_runs_programs_on_its_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [CODEFORCES | {"prompt": f"Add two numbers ({k})."} for k in range(5)]
    for split in ("train", "test"):
        lines(tmp_path / f"{split}.jsonl", rows[:1] if split == "test" else rows[1:])
    data = [
        "stage=rl",
        "algorithm.prompts_per_step=2",
        "dataset=codeforces",
        "dataset.subset=null",
        f"dataset.path={tmp_path}",
    ]
    assert main(["check", *data, "rewards=code_codeforces"]) == 0
    assert "no gold answer" in capsys.readouterr().out  # there are no reference programs to compare with
    gold = "dataset.columns.answer=answer"
    for split in ("train", "test"):
        made = [json.loads(line) | {"answer": "print(sum(map(int, input().split())))"} for line in (tmp_path / f"{split}.jsonl").open()]  # fmt: skip
        lines(tmp_path / f"{split}.jsonl", made)
    assert main(["check", *data, gold, "rewards=code_codeforces"]) == 0
    assert "passed" in capsys.readouterr().out


@needs_sandbox
@pytest.mark.slow
def test_code_ioi_runs_programs_with_the_grader_and_the_joined_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        IOI | {"problem": f"Write add() ({k}).", "answer": "int add(int a, int b) { return a + b; }"}
        for k in range(4)
    ]
    (tmp_path / "ioi").mkdir()
    for split in ("train", "test"):
        lines(tmp_path / "ioi" / f"{split}.jsonl", rows[:1] if split == "test" else rows[1:])
    tests = lines(tmp_path / "tests.jsonl", IOI_TESTS)
    data = [
        "stage=rl",
        "dataset=ioi",
        "algorithm.prompts_per_step=2",
        f"dataset.path={tmp_path / 'ioi'}",
        f"dataset.tests={tests}",
        "rewards=code_ioi",
    ]
    assert main(["check", *data, "dataset.columns.answer=answer"]) == 0
    assert "passed" in capsys.readouterr().out
    lines(tmp_path / "tests.jsonl", IOI_TESTS[:1])
    assert main(["check", *data]) == 2
    assert "1 tests of the problem 'add' are not in dataset.tests, first '1-02'" in capsys.readouterr().err


class Length(BatchScorer):
    """Stands for a reward model."""

    def score(self, problems: Any, completions: Any, context: Context) -> list[Score]:
        del problems, context
        return [min(len(completion.text) / 100, 1.0) for completion in completions]


def test_helpful_harmless_judges_each_part_by_its_own_members(
    composed: Callable[..., dict[str, Reward]],
) -> None:
    models = {"helpful.model": "some/model", "harmless.model": "some/other"}
    rewards = composed(CONF / "helpful_harmless.yaml", **models)
    committee = Committee(rewards, openers={"reward_model": lambda reward: Length()})
    problems = [
        Problem("math/1", "1 + 1?", "2", {"source": "math"}),
        Problem("general/1", "Hi", None, {"source": "general"}),
    ]
    texts = ["<think>so</think>\n<answer>2</answer>", "<think>so</think>\n<answer>Hello</answer>"]
    table, totals = committee.totals(problems, [Completion(text, 9) for text in texts], Context())
    committee.close()
    assert (
        table["accuracy"] == [1.0, NOT_APPLICABLE]
        and table["helpful"][0] == table["harmless"][0] == NOT_APPLICABLE
    )
    assert not any(isinstance(table[name][1], Abstain) for name in ("helpful", "harmless", "format"))
    assert totals[0] == pytest.approx(1.5) and totals[1] == pytest.approx(0.5 + len(texts[1]) / 100)


def test_language_prefers_a_right_answer_in_another_language_to_a_wrong_one_in_this(
    composed: Callable[..., dict[str, Reward]],
) -> None:
    committee = Committee(composed(CONF / "language.yaml"))
    problem = Problem("a", "What is 1 + 1?", "2", {})
    english = "We add one and one, and the sum of both numbers is two."
    chinese = "我们把一和一相加，所以这两个数的和是二。"
    texts = [(english, "2"), (chinese, "2"), (english, "3"), (f"{english} {chinese}", "2")]
    made = [
        Completion(f"<think>{reasoning}</think>\n<answer>{answer}</answer>", 9) for reasoning, answer in texts
    ]
    _, totals = committee.totals([problem] * len(made), made, Context())
    committee.close()
    best, other, wrong, mixed = (float(total or 0.0) for total in totals)
    assert best == pytest.approx(2.0) and best > mixed > other > wrong
