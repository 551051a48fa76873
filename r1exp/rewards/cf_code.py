"""Scores a C++ or Python program by the tests of a Codeforces problem.

    p = passed cases / all cases, full = 1 if p == 1 else 0
    pass_fail: full      partial: p      weighted_sum: full + 0.1 p

A program that does not compile scores `no_compile`, a completion without a program `no_program`. The
columns are those of open-r1/codeforces: `official_tests` and `generated_tests` (lists of
{"input", "output"}), `time_limit` (seconds), `memory_limit` (MB), `generated_checker` (Python),
`language`. Source: open-r1's cf_code_reward.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import PositiveFloat

from r1exp.records import Completion, Problem
from r1exp.rewards.base import UNREADABLE_GOLD, Abstain, Context, Score, Span
from r1exp.rewards.code import NO_CASES, RunsCode
from r1exp.rewards.code_text import read_cases, read_program
from r1exp.rewards.contests import limits_of, time_of
from r1exp.sandbox.base import Case, Checker, Language, Submission, Unavailable
from r1exp.sandbox.verdicts import run

UNSUPPORTED = Abstain("problem type not supported")
_PARTIAL = 0.1  # points of weighted_sum for passing all cases, beyond the one point for `full`


class CfCode(RunsCode):
    """Points for passing the tests; a checker judges outputs where several are right."""

    kind: Literal["cf_code"] = "cf_code"
    language: Language = "cpp"  # programming language of the answer
    # What counts: all tests, or a share of them.
    scoring: Literal["pass_fail", "partial", "weighted_sum"] = "weighted_sum"
    no_compile: float = -0.1  # points
    no_program: float = -1.0  # points
    time_factor: PositiveFloat = 1.0  # multiplies the problem's own time limit

    @property
    def span(self) -> Span:
        return (
            min(0.0, self.no_compile, self.no_program),
            1.0 + (_PARTIAL if self.scoring == "weighted_sum" else 0.0),
        )

    def quick(self, problem: Problem, completion: Completion, context: Context) -> Score | None:
        del context
        if problem.columns.get("interaction_format") or problem.columns.get("input_mode") not in (
            None,
            "stdio",
        ):
            return UNSUPPORTED
        try:
            cases, language = _cases(problem), self.language_of(problem)
        except ValueError:
            return UNREADABLE_GOLD
        if not cases:
            return NO_CASES
        return self.no_program if read_program(self.style, language, completion.text) is None else None

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        known = self.quick(problem, completion, context)
        if known is not None:
            return known
        language = self.language_of(problem)
        source = read_program(self.style, language, completion.text)
        assert source is not None
        seconds, memory_mib = time_of(problem, self.time_factor), problem.columns.get("memory_limit")
        limits = limits_of(self.limits, seconds, memory_mib, self.longest_wall())
        cases = _cases(problem)
        results = run(
            self.sandbox, Submission(language, source), cases, limits, batch=self.batch,
            stop_at_failure=self.scoring == "pass_fail",
        )  # fmt: skip
        if isinstance(results, Unavailable):
            return Abstain(results.reason)
        if results[0].outcome == "compile_error":
            return self.no_compile
        share = sum(result.outcome == "passed" for result in results) / len(cases)
        return points(share, self.scoring)


def points(share: float, scoring: Literal["pass_fail", "partial", "weighted_sum"]) -> float:
    """Return the score for a share of passed cases."""
    full = float(share == 1.0)
    return {"pass_fail": full, "partial": share, "weighted_sum": full + _PARTIAL * share}[scoring]


def _cases(problem: Problem) -> list[Case]:
    """Return all tests, with the checker where there is one. Raises ValueError for an unreadable column."""
    columns = problem.columns
    listed = [columns.get("official_tests"), columns.get("generated_tests")]
    cases = [case for tests in listed if isinstance(tests, Sequence) for case in read_cases(tests)]
    source = columns.get("generated_checker")
    checker = Checker(Submission("python", source)) if source else None
    return [Case(case.stdin, case.expected, checker) for case in cases]
