"""Is the output right? Verdicts on what a submission printed, reached outside of its sandbox.

The whole output counts: text equality, white space at line ends and blank lines at the end aside, or
a checker. A checker runs in a sandbox of its own, beside the expected output that the submission
never sees. If it cannot judge, it is asked about the expected output: a checker that accepts that is
sound, so the submission's output was to blame; one that does not is broken, and nothing is scored.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from r1exp.sandbox.base import (
    Case,
    CaseResult,
    Checker,
    CheckerBrokenError,
    CompileFailedError,
    Execute,
    Execution,
    Invocation,
    Limits,
    Sandbox,
    SandboxDownError,
    Submission,
    Unavailable,
)

_DETAIL = 500  # characters
_INPUT, _EXPECTED, _PRODUCED = "input.txt", "expected.txt", "produced.txt"
_CHECKER_LIMITS = Limits(cpu_seconds=20.0, wall_seconds=40.0, memory_mib=1024, scratch_mib=256)


def run(
    sandbox: Sandbox,
    submission: Submission,
    cases: Sequence[Case],
    limits: Limits,
    *,
    batch: int = 1,
    stop_at_failure: bool = False,
) -> list[CaseResult] | Unavailable:
    """Judge `submission` on `cases`, `batch` of them at once, and return their results in order.

    With `stop_at_failure` nothing runs after a batch with a case that scores 0, and the list is
    shorter than `cases`. Never raises for anything that a submission, a checker or a provider does.
    """
    try:
        with sandbox.prepared(submission, limits) as execute, ExitStack() as stack:
            judge = _Judge(sandbox, stack)
            return _batches(execute, judge, cases, limits, batch, stop_at_failure=stop_at_failure)
    except CompileFailedError as failed:
        return [CaseResult("compile_error", detail=str(failed)[-_DETAIL:])] * len(cases)
    except SandboxDownError as down:
        return Unavailable(down.reason, str(down))


def _batches(
    execute: Execute,
    judge: "_Judge",
    cases: Sequence[Case],
    limits: Limits,
    batch: int,
    *,
    stop_at_failure: bool,
) -> list[CaseResult]:
    results: list[CaseResult] = []
    spent = 0.0  # wall seconds of the submission itself, not of waiting for a free place
    with ThreadPoolExecutor(max_workers=batch) as pool:
        for start in range(0, len(cases), batch):
            some = cases[start : start + batch]
            num_timeouts = sum(result.outcome == "timeout" for result in results)
            if spent > limits.total_seconds or num_timeouts >= limits.max_timeouts:
                late = f"not run: the cases before took {spent:.0f} seconds and {num_timeouts} timed out"
                results += [CaseResult("timeout", detail=late)] * len(some)
                continue
            together = map if len(some) == 1 else pool.map  # a thread for one is a waste
            executions = list(together(lambda case: execute(Invocation(case.stdin)), some))
            spent += sum(execution.wall_seconds for execution in executions)
            verdicts = [judge.verdict(case, done) for case, done in zip(some, executions, strict=True)]
            results += verdicts
            if stop_at_failure and any(verdict.score == 0.0 for verdict in verdicts):
                break
    return results


@dataclass(frozen=True)
class _Judge:
    """Verdicts on executions; checkers stay prepared for as long as `stack` is open."""

    sandbox: Sandbox
    stack: ExitStack
    checkers: dict[int, Execute] = field(default_factory=dict)

    def verdict(self, case: Case, done: Execution) -> CaseResult:
        if done.ended != "exited":
            return CaseResult(done.ended, 0.0, done.cpu_seconds, done.stderr[-_DETAIL:])
        if done.exit_code != 0:
            detail = f"exit code {done.exit_code}: {done.stderr[-_DETAIL:]}"
            return CaseResult("crash", 0.0, done.cpu_seconds, detail)
        if case.checker is None:
            score = float(same_output(case.expected, done.stdout))
        else:
            score = self._ask(case.checker, case, done.stdout)
        return CaseResult("passed" if score == 1.0 else "wrong", score, done.cpu_seconds)

    def _ask(self, checker: Checker, case: Case, produced: str) -> float:
        score = self._score(checker, case, produced)
        if score is not None:
            return score
        if self._score(checker, case, case.expected) == 1.0:
            return 0.0  # a sound checker that cannot read this output
        raise CheckerBrokenError("the checker of this problem does not accept the expected output")

    def _score(self, checker: Checker, case: Case, produced: str) -> float | None:
        files = {_INPUT: case.stdin, _EXPECTED: case.expected, _PRODUCED: produced}
        names = (_INPUT, _EXPECTED, _PRODUCED)
        if checker.protocol == "testlib":
            names = (_INPUT, _PRODUCED, _EXPECTED)
        try:
            done = self._prepared(checker)(Invocation(args=names, files=files))
        except CompileFailedError as failed:  # not the submission's fault
            raise CheckerBrokenError(f"the checker does not compile: {str(failed)[-_DETAIL:]}") from failed
        if done.ended != "exited":
            return None
        return _testlib(done) if checker.protocol == "testlib" else _printed_score(done)

    def _prepared(self, checker: Checker) -> Execute:
        key = id(checker.program)
        if key not in self.checkers:
            self.checkers[key] = self.stack.enter_context(
                self.sandbox.prepared(checker.program, _CHECKER_LIMITS)
            )
        return self.checkers[key]


def same_output(expected: str, produced: str) -> bool:
    """Return whether the two texts are equal, white space at line ends and blank lines at the end aside."""
    return _lines(expected) == _lines(produced)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _printed_score(done: Execution) -> float | None:
    """CMS and open-r1: a number in [0, 1] on the first line of stdout, exit code 0."""
    words = done.stdout.split(maxsplit=1)
    if done.exit_code != 0 or not words or re.fullmatch(r"\d+(\.\d*)?|\.\d+", words[0]) is None:
        return None
    score = float(words[0])
    return score if score <= 1.0 else None


def _testlib(done: Execution) -> float | None:
    """testlib.h: 0 right, 1 wrong, 2 badly formatted, 7 with `points X` in stderr, 3 the checker failed."""
    if done.exit_code == 7:
        points = re.search(r"points\s+(\d+(?:\.\d+)?)", done.stderr)
        return None if points is None or float(points[1]) > 1.0 else float(points[1])
    return {0: 1.0, 1: 0.0, 2: 0.0}.get(done.exit_code)
