"""IOI points by subtask, Codeforces scores with checkers, in C++ and Python."""

from typing import Any, Literal

import pytest

from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import UNREADABLE_GOLD, Abstain, Context, Score
from r1exp.rewards.cf_code import CfCode, points
from r1exp.rewards.code import NO_CASES
from r1exp.rewards.contests import Subtask, limits_of, subtask_points
from r1exp.rewards.ioi_code import IoiCode, with_includes
from r1exp.sandbox.base import Limits
from r1exp.sandbox.local import Local
from r1exp.sandbox.piston import Piston

DOWN = Piston(urls=("http://127.0.0.1:9/api/v2",), retries=0)


def program(source: str, label: str) -> Completion:
    return Completion(style_named("think_answer").write("So.", f"```{label}\n{source}\n```"), 20)


@pytest.mark.parametrize(
    ("scores", "share"),
    [
        pytest.param({"a": 1.0, "b": 1.0, "c": 1.0}, 1.0, id="all"),
        pytest.param({"a": 1.0, "b": 1.0, "c": 0.0}, 0.3, id="first subtask"),  # 30 of 100
        pytest.param({"a": 1.0, "b": 0.5, "c": 0.5}, 0.5, id="half of both"),  # 15 + 35
        pytest.param({"a": 0.0, "b": 1.0, "c": 1.0}, 0.0, id="a test of both fails"),
        pytest.param({"a": 1.0, "b": 1.0}, 0.3, id="one was not run"),
    ],
)
def test_a_subtask_scores_its_lowest_test(scores: dict[str, float], share: float) -> None:
    subtasks = [Subtask(30.0, ("a", "b")), Subtask(70.0, ("a", "b", "c"))]
    assert subtask_points(subtasks, scores) == pytest.approx(share)


GRADER = """
#include <cstdio>
#include "add.h"
int main() { int a, b; if (scanf("%d %d", &a, &b) != 2) return 1; printf("secret\\n%d\\n", add(a, b)); }
"""
CHECKER = """
#include <cstdio>
#include <fstream>
#include <string>
int main(int, char** argv) {
    std::ifstream expected(argv[2]), produced(argv[3]);
    std::string key, other; int right = 0, given = 0;
    expected >> key >> right; produced >> other >> given;
    if (key != other) std::puts("0");
    else std::puts(right == given ? "1.0" : right == given + 1 ? "0.5" : "0");
}
"""
FILES = [["graders/grader.cpp", GRADER], ["graders/add.h", "int add(int a, int b);"]]
TESTS = {"1-01": ["1 2", "secret\n3\n"], "1-02": ["2 2", "secret\n4\n"], "2-01": ["1000 1", "secret\n1001\n"]}


def ioi(**columns: Any) -> Problem:
    names = list(TESTS)
    columns = {"test_names": names, "test_cases": [TESTS[name] for name in names], "grader_files": FILES,
               "time_limit": 4.0, "memory_limit": 256 << 20, "score": 40, "task_type": "Batch"} | columns  # fmt: skip
    return Problem("Add", "Write add().", None, columns)


def ioi_score(source: str, problem: Problem, sandbox: Any = None) -> Score:
    reward = IoiCode(style="think_answer", sandbox=sandbox or Local(), batch=2)
    return reward.score(problem, program(source, "cpp"), Context())


RIGHT = "int add(int a, int b) { return a + b; }"
ONE_LESS = "int add(int a, int b) { return a + b - 1; }"
SMALL_ONLY = "int add(int a, int b) { return a > 100 ? 0 : a + b; }"
TWO_SUBTASKS = [{"score": 30, "test_names": ["1-01", "1-02"]}, {"score": 70, "test_names": ["1-01", "2-01"]}]


@pytest.mark.parametrize(
    ("source", "columns", "share"),
    [
        pytest.param(RIGHT, {}, 1.0, id="right"),
        pytest.param(SMALL_ONLY, {}, 0.0, id="one test of the subtask fails"),
        pytest.param(SMALL_ONLY, {"subtasks": TWO_SUBTASKS}, 0.3, id="one subtask of two"),
        pytest.param(ONE_LESS, {"grader_files": [*FILES, ["checker/checker.cpp", CHECKER]]}, 0.5, id="a checker's half"),
        pytest.param(ONE_LESS, {}, 0.0, id="without a checker texts are compared"),
        pytest.param("int add(int a, int b) { for (;;) {} }", {"time_limit": 0.5}, 0.0, id="endless"),
        pytest.param("int sub(int a, int b) { return a - b; }", {}, 0.0, id="does not link"),
        pytest.param("vector<int> v; int add(int a, int b) { return accumulate({a, b}, 0); }", {}, 0.0, id="does not compile"),
    ],
)  # fmt: skip
def test_an_ioi_program_scores_its_share_of_the_points(
    source: str, columns: dict[str, Any], share: float
) -> None:
    assert ioi_score(source, ioi(**columns)) == pytest.approx(share)


def test_missing_headers_are_added() -> None:
    assert with_includes("int x;", "Add", {"add.h": ""}).splitlines() == [
        "#include <bits/stdc++.h>", '#include "add.h"', "using namespace std;", "int x;",
    ]  # fmt: skip
    whole = '#include "add.h"\nusing namespace std;'
    assert with_includes(whole, "add", {"add.h": ""}) == f"#include <bits/stdc++.h>\n{whole}"


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        pytest.param({"test_cases": None}, NO_CASES, id="no tests"),
        pytest.param({"test_names": ["1-01"]}, UNREADABLE_GOLD, id="names do not match"),
        pytest.param({"subtasks": [{"score": 1, "test_names": ["x"]}]}, UNREADABLE_GOLD, id="unknown test"),
        pytest.param({"subtasks": [{"test_names": ["1-01"]}]}, UNREADABLE_GOLD, id="no points"),
        pytest.param({"task_type": "Communication"}, Abstain("task type not supported"), id="communication"),
        pytest.param({"grader_files": [["graders/manager.cpp", "x"]]}, Abstain("task type not supported"), id="manager"),
        pytest.param({"grader_files": [*FILES, ["checker/checker.cpp", "oops"]]}, Abstain("checker broken"), id="checker"),
    ],
)  # fmt: skip
def test_an_ioi_row_that_cannot_be_judged_abstains(columns: dict[str, Any], reason: Abstain) -> None:
    assert ioi_score(RIGHT, ioi(**columns)) == reason


def test_tests_in_a_mapping_by_name_are_read() -> None:
    assert ioi_score(RIGHT, ioi(test_cases=TESTS, test_names=None)) == 1.0


def test_contest_rewards_abstain_without_a_sandbox() -> None:
    assert ioi_score(RIGHT, ioi(), DOWN) == Abstain("sandbox unavailable")
    made = program("print(3)", "python")
    assert CfCode(style="think_answer", sandbox=DOWN).score(
        cf(language="python"), made, Context()
    ) == Abstain("sandbox unavailable")


@pytest.mark.parametrize(
    ("scoring", "shares"),
    [
        ("pass_fail", {1.0: 1.0, 0.5: 0.0, 0.0: 0.0}),
        ("partial", {1.0: 1.0, 0.5: 0.5, 0.0: 0.0}),
        ("weighted_sum", {1.0: 1.1, 0.5: 0.05, 0.0: 0.0}),
    ],
)
def test_the_scoring_turns_the_share_of_cases_into_points(
    scoring: Literal["pass_fail", "partial", "weighted_sum"], shares: dict[float, float]
) -> None:
    for share, expected in shares.items():
        assert points(share, scoring) == pytest.approx(expected)


ANY_ORDER = """
import sys
expected, produced = (sorted(open(name).read().split()) for name in sys.argv[2:])
print(1 if expected == produced else 0)
"""


def cf(**columns: Any) -> Problem:
    columns = {
        "official_tests": [{"input": "2 1", "output": "1 2"}, {"input": "3 4", "output": "3 4"}],
        "generated_tests": 7, "generated_checker": None, "time_limit": 4.0, "memory_limit": 256.0,
        "input_mode": "stdio", "interaction_format": None, "language": "cpp",
    } | columns  # fmt: skip
    return Problem("1A", "Print both numbers, smaller first.", None, columns)


def cf_score(completion: Completion, problem: Problem, **settings: Any) -> Score:
    return CfCode(style="think_answer", sandbox=Local(), **settings).score(problem, completion, Context())


SORTS_CPP = "#include <bits/stdc++.h>\nint main() { int a, b; std::cin >> a >> b; std::cout << std::min(a, b) << ' ' << std::max(a, b); }"


@pytest.mark.parametrize(
    ("completion", "columns", "score"),
    [
        pytest.param(program(SORTS_CPP, "cpp"), {}, 1.1, id="cpp right"),
        pytest.param(program("print(*sorted(map(int, input().split())))", "python"), {"language": "python"}, 1.1, id="python right"),
        pytest.param(program("print(input())", "python"), {"language": "python"}, 0.05, id="half of the cases"),
        pytest.param(program("print(input())", "python"), {"language": "python", "generated_checker": ANY_ORDER}, 1.1, id="checker"),
        pytest.param(program("int main() {", "cpp"), {}, -0.1, id="does not compile"),
        pytest.param(Completion("no idea", 2), {}, -1.0, id="no program"),
        pytest.param(program("while True: pass", "python"), {"language": "python", "time_limit": 0.5}, 0.0, id="endless"),
    ],
)  # fmt: skip
def test_a_codeforces_program_scores_its_points(
    completion: Completion, columns: dict[str, Any], score: float
) -> None:
    assert cf_score(completion, cf(**columns)) == pytest.approx(score)


def test_gold_scores_exactly_the_end_of_the_span() -> None:
    for scoring in ("pass_fail", "partial", "weighted_sum"):
        reward = CfCode(style="think_answer", sandbox=Local(), scoring=scoring)
        assert reward.score(cf(), program(SORTS_CPP, "cpp"), Context()) == reward.span[1]
        assert reward.span[0] == -1.0


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        pytest.param({"official_tests": [], "generated_tests": None}, NO_CASES, id="no tests"),
        pytest.param({"official_tests": [{"input": "1"}]}, UNREADABLE_GOLD, id="half a test"),
        pytest.param({"interaction_format": "talk"}, Abstain("problem type not supported"), id="interactive"),
        pytest.param({"input_mode": "file"}, Abstain("problem type not supported"), id="files"),
        pytest.param({"generated_checker": "raise SystemExit(9)"}, Abstain("checker broken"), id="checker"),
    ],
)
def test_a_codeforces_row_that_cannot_be_judged_abstains(columns: dict[str, Any], reason: Abstain) -> None:
    assert cf_score(program(SORTS_CPP, "cpp"), cf(**columns)) == reason


def test_the_limits_of_a_problem_replace_the_settings_but_not_the_deadline() -> None:
    limits = limits_of(Limits(), cpu_seconds=3.0, memory_mib=64.0, longest_wall=25.0)
    assert (limits.cpu_seconds, limits.wall_seconds, limits.memory_mib) == (3.0, 10.0, 64)
    assert limits_of(Limits(), cpu_seconds=8.0, memory_mib=None, longest_wall=25.0).wall_seconds == 17.0
    assert limits_of(Limits(), cpu_seconds=20.0, memory_mib=None, longest_wall=25.0).wall_seconds == 25.0
    assert limits_of(Limits(), None, None, 25.0) == Limits()
