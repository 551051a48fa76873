"""Outputs are compared completely; checkers give full, partial or no points, or are broken."""

import pytest

from r1exp.sandbox.base import Case, CaseResult, Checker, Limits, Submission, Unavailable
from r1exp.sandbox.local import Local
from r1exp.sandbox.verdicts import run, same_output


@pytest.mark.parametrize(
    ("expected", "produced", "same"),
    [
        pytest.param("1\n2\n", "1\n2\n", True, id="equal"),
        pytest.param("1\n2\n", "1\n2", True, id="no newline at the end"),
        pytest.param("1 2 \n", "1 2\n\n\n", True, id="white space at ends"),
        pytest.param("1\n2\n", "1\r\n2\r\n", True, id="windows newlines"),
        pytest.param("1\n2\n", "1\n", False, id="first line only"),
        pytest.param("1\n", "1\n2\n", False, id="more lines"),
        pytest.param("1\n2\n", "\n1\n2\n", False, id="blank line first"),
        pytest.param("1 2", "1  2", False, id="white space inside"),
        pytest.param("1\n2", "1\x0c2", False, id="form feed is no newline"),
        pytest.param("1\n2", "1\u20282", False, id="line separator is no newline"),
        pytest.param("", "\n", True, id="nothing"),
        pytest.param("Yes", "YES", False, id="case"),
    ],
)
def test_whole_outputs_are_compared(expected: str, produced: str, same: bool) -> None:
    assert same_output(expected, produced) is same


NEAR = Checker(
    Submission("python", """
import sys
question, expected, produced = (open(name).read() for name in sys.argv[1:])
print(max(0.0, 1.0 - abs(float(expected) - float(produced))))
""")
)  # fmt: skip
TESTLIB = Checker(
    Submission("cpp", """
#include <cstdio>
#include <cstdlib>
int read(const char* name) { int value = -1; FILE* file = fopen(name, "r");
    if (!file || fscanf(file, "%d", &value) != 1) exit(2); return value; }
int main(int, char** argv) {
    int question = read(argv[1]), produced = read(argv[2]), expected = read(argv[3]);
    if (question != 7) return 3;
    if (produced == expected) return 0;
    if (produced + 1 == expected) { fprintf(stderr, "points 0.25\\n"); return 7; }
    return 1; }
"""),
    protocol="testlib",
)  # fmt: skip


def scores(
    produced: str, checker: Checker, expected: str = "42", stdin: str = "7"
) -> list[CaseResult] | Unavailable:
    source = f"print({produced!r})"
    return run(Local(), Submission("python", source), [Case(stdin, expected, checker)], Limits())


@pytest.mark.parametrize(
    ("produced", "checker", "outcome", "score"),
    [
        pytest.param("42.0", NEAR, "passed", 1.0, id="another form of the answer"),
        pytest.param("42.25", NEAR, "wrong", 0.75, id="a part of the points"),
        pytest.param("50", NEAR, "wrong", 0.0, id="far"),
        pytest.param("hello", NEAR, "wrong", 0.0, id="not readable for the checker"),
        pytest.param("", NEAR, "wrong", 0.0, id="nothing for the checker"),
        pytest.param("42", TESTLIB, "passed", 1.0, id="testlib right"),
        pytest.param("43", TESTLIB, "wrong", 0.0, id="testlib wrong"),
        pytest.param("x", TESTLIB, "wrong", 0.0, id="testlib badly formatted"),
        pytest.param("41", TESTLIB, "wrong", 0.25, id="testlib points"),
    ],
)
def test_a_checker_decides(produced: str, checker: Checker, outcome: str, score: float) -> None:
    answer = scores(produced, checker)
    assert isinstance(answer, list), answer
    assert (answer[0].outcome, answer[0].score) == (outcome, score)


@pytest.mark.parametrize(
    ("checker", "stdin", "reason"),
    [
        pytest.param(
            Checker(Submission("python", "raise SystemExit(1)")), "7", "does not accept", id="raises"
        ),
        pytest.param(
            Checker(Submission("python", "print('ok')")), "7", "does not accept", id="prints no score"
        ),
        pytest.param(Checker(Submission("python", "print(100)")), "7", "does not accept", id="another scale"),
        pytest.param(
            Checker(Submission("cpp", "int main() {")), "7", "does not compile", id="does not compile"
        ),
        pytest.param(TESTLIB, "8", "does not accept", id="reports that it failed"),
    ],
)
def test_a_broken_checker_gives_no_score(checker: Checker, stdin: str, reason: str) -> None:
    answer = scores("42", checker, stdin=stdin)
    assert isinstance(answer, Unavailable)
    assert answer.reason == "checker broken"
    assert reason in answer.detail


def test_a_checker_does_not_judge_a_program_that_crashed() -> None:
    always = Checker(Submission("python", "print(1)"))
    answer = run(Local(), Submission("python", "print(42); exit(1)"), [Case("", "42", always)], Limits())
    assert isinstance(answer, list)
    assert answer[0].outcome == "crash"


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_results_keep_the_order_of_the_cases(batch: int) -> None:
    cases = [Case(str(number), str(number if number % 2 else -1)) for number in range(5)]
    answer = run(Local(), Submission("python", "print(input())"), cases, Limits(), batch=batch)
    assert isinstance(answer, list)
    assert [result.score for result in answer] == [0.0, 1.0, 0.0, 1.0, 0.0]


def test_with_stop_at_failure_a_batch_with_a_failure_is_the_last() -> None:
    cases = [Case("1", "1"), Case("2", "2"), Case("3", "-1"), Case("4", "4"), Case("5", "5")]
    answer = run(
        Local(), Submission("python", "print(input())"), cases, Limits(), batch=2, stop_at_failure=True
    )
    assert isinstance(answer, list)
    assert [result.score for result in answer] == [1.0, 1.0, 0.0, 1.0]
