"""Judges the outputs of a submission, outside of its sandbox.

The whole output is compared: as text, ignoring white space at the end of lines and blank lines at the
end; as a value, if a function was called; or by a checker. A checker runs in a separate sandbox, which contains the expected output; the
submission's sandbox does not. If a checker gives no verdict, it is run again on the expected output: if
it accepts that, it works, and the submission's output is wrong; otherwise it is broken, and the
submission is not scored. Tests with asserts run in a separate sandbox too, and call the program through a pipe.
"""

import json
import math
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

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
    Tests,
    Unavailable,
)

_DETAIL = 500  # characters
_INPUT, _EXPECTED, _PRODUCED = "input.txt", "expected.txt", "produced.txt"
_HARNESS = Path(__file__).parent / "harness"
_TOLERANCE = 1e-6  # of numbers with a fraction that functions return, relative or absolute
_BROKEN_TESTS = 3  # exit code of harness/ask.py
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
    """Run `submission` on `cases` and return their results in order.

    Args:
        sandbox: Where it runs.
        submission: The program.
        cases: The test cases.
        limits: Of one case, and of all together.
        batch: Cases that run at once.
        stop_at_failure: Whether to stop after a batch with a case that scores 0; the list is then
            shorter than `cases`.

    Never raises for anything that a submission, a checker or a provider does.
    """
    texts = [submission.source, *submission.files.values()]
    if not all(_is_unicode(text) for text in texts):
        return [CaseResult("compile_error", detail="the program is not Unicode text")] * len(cases)
    try:
        with sandbox.prepared(submission, limits) as execute, ExitStack() as stack:
            judge = _OutputJudge(sandbox, submission, limits, stack)
            return _batches(execute, judge, cases, limits, batch, stop_at_failure=stop_at_failure)
    except CompileFailedError as failed:
        return [CaseResult("compile_error", detail=str(failed)[-_DETAIL:])] * len(cases)
    except SandboxDownError as down:
        return Unavailable(down.reason, str(down))


def _batches(
    execute: Execute,
    judge: "_OutputJudge",
    cases: Sequence[Case],
    limits: Limits,
    batch: int,
    *,
    stop_at_failure: bool,
) -> list[CaseResult]:
    results: list[CaseResult] = []
    spent = 0.0  # wall seconds of the submission itself, without waiting for a free slot
    with ThreadPoolExecutor(max_workers=batch) as pool:
        for start in range(0, len(cases), batch):
            some = cases[start : start + batch]
            num_timeouts = sum(result.outcome == "timeout" for result in results)
            if spent > limits.total_seconds or num_timeouts >= limits.max_timeouts:
                not_run = f"not run: the cases before took {spent:.0f} seconds and {num_timeouts} timed out"
                results += [CaseResult("timeout", detail=not_run)] * len(some)
                continue
            apply = map if len(some) == 1 else pool.map  # a single case needs no thread
            executions = list(apply(lambda case: judge.execution(execute, case), some))
            spent += sum(execution.wall_seconds for execution in executions)
            verdicts = [judge.verdict(case, done) for case, done in zip(some, executions, strict=True)]
            results += verdicts
            if stop_at_failure and any(verdict.score == 0.0 for verdict in verdicts):
                break
    return results


@dataclass(frozen=True)
class _OutputJudge:
    """Judges executions; checkers stay prepared while `stack` is open."""

    sandbox: Sandbox
    submission: Submission
    limits: Limits
    stack: ExitStack
    checkers: dict[int, Execute] = field(default_factory=dict)

    def execution(self, execute: Execute, case: Case) -> Execution:
        """Run the program on the input of a case, or let the tests of the case call it."""
        if case.tests is None:
            return execute(Invocation(case.stdin))
        seconds = {"cpu_seconds": self.limits.wall_seconds, "wall_seconds": self.limits.wall_seconds}
        own = _CHECKER_LIMITS.model_copy(update=seconds)
        done, asked = self.sandbox.converse(self.submission, _asking(case.tests), self.limits, own)
        if asked.exit_code == _BROKEN_TESTS:
            raise CheckerBrokenError(f"the tests of this problem do not work: {asked.stderr[-_DETAIL:]}")
        if done.ended == "exited" and asked.ended != "exited":
            done = replace(done, ended=asked.ended)
        return replace(done, exit_code=0, stdout=_passed(asked), stderr=asked.stderr + done.stderr)

    def verdict(self, case: Case, done: Execution) -> CaseResult:
        if done.ended != "exited":
            return CaseResult(done.ended, 0.0, done.cpu_seconds, done.stderr[-_DETAIL:])
        if done.exit_code != 0:
            detail = f"exit code {done.exit_code}: {done.stderr[-_DETAIL:]}"
            return CaseResult("crash", 0.0, done.cpu_seconds, detail)
        if case.tests is not None:
            score = float(bool(done.stdout))
        elif case.checker is None:
            score = float(_COMPARED[case.form](case.expected, done.stdout))
        else:
            score = self._checker_score(case.checker, case, done.stdout)
        return CaseResult("passed" if score == 1.0 else "wrong", score, done.cpu_seconds)

    def _checker_score(self, checker: Checker, case: Case, produced: str) -> float:
        score = self._run_checker(checker, case, produced)
        if score is not None:
            return score
        if self._run_checker(checker, case, case.expected) == 1.0:
            return 0.0  # the checker works, and cannot read this output
        raise CheckerBrokenError("the checker of this problem does not accept the expected output")

    def _run_checker(self, checker: Checker, case: Case, produced: str) -> float | None:
        """Return the checker's score of an output, or None if it gives none."""
        files = {_INPUT: case.stdin, _EXPECTED: case.expected, _PRODUCED: produced}
        names = (_INPUT, _EXPECTED, _PRODUCED)
        if checker.protocol == "testlib":
            names = (_INPUT, _PRODUCED, _EXPECTED)
        try:
            done = self._prepared(checker)(Invocation(args=names, files=files))
        except CompileFailedError as failed:
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


def calling(submission: Submission) -> Submission:
    """Return the program that calls a function of `submission` with arguments from its input."""
    ending = {"python": "py", "javascript": "js"}[submission.language]
    source = (_HARNESS / f"call.{ending}").read_text(encoding="utf-8")
    return Submission(submission.language, source, {f"program.{ending}": submission.source})


def serving(submission: Submission) -> Submission:
    """Return the program that calls functions of `submission`, in Python, as tests ask for it."""
    source = (_HARNESS / "serve.py").read_text(encoding="utf-8")
    return Submission("python", source, {"program.py": submission.source})


def _asking(tests: Tests) -> Submission:
    files = {"tests.py": tests.source, "setup.py": tests.setup, "entry.txt": tests.entry}
    return Submission("python", (_HARNESS / "ask.py").read_text(encoding="utf-8"), files)


def _passed(asked: Execution) -> str:
    """Return "passed" if the tests ended by themselves and all passed, else ""."""
    return "passed" if asked.ended == "exited" and asked.exit_code == 0 else ""


def _is_unicode(text: str) -> bool:
    """Return whether `text` can be written to a file: it has no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def same_output(expected: str, produced: str) -> bool:
    """Return whether two texts are equal, ignoring white space at line ends and blank lines at the end."""
    return _lines(expected) == _lines(produced)


def same_value(expected: str, produced: str) -> bool:
    """Return whether two JSON texts have the same value; numbers with a fraction may differ by 1e-6."""
    try:
        return _equal(json.loads(expected), json.loads(produced))
    except (ValueError, RecursionError):
        return False


def same_wrapped(expected: str, produced: str) -> bool:
    """Return the same, where `expected` may also be a list of the value."""
    wrapped = json.loads(expected)
    inside = wrapped[0] if isinstance(wrapped, list) and len(wrapped) == 1 else wrapped
    return same_value(expected, produced) or same_value(json.dumps(inside), produced)


_COMPARED = {"text": same_output, "value": same_value, "wrapped": same_wrapped}


def _equal(expected: Any, produced: Any) -> bool:
    if isinstance(expected, bool) or isinstance(produced, bool):
        return expected is produced
    if isinstance(expected, float) or isinstance(produced, float):
        numbers = isinstance(expected, int | float) and isinstance(produced, int | float)
        return numbers and math.isclose(expected, produced, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    if isinstance(expected, list) and isinstance(produced, list):
        return len(expected) == len(produced) and all(map(_equal, expected, produced))
    if isinstance(expected, dict) and isinstance(produced, dict):
        return expected.keys() == produced.keys() and all(
            _equal(value, produced[key]) for key, value in expected.items()
        )
    return bool(type(expected) is type(produced) and expected == produced)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _printed_score(done: Execution) -> float | None:
    """Return a score as CMS and open-r1 print it: a number in [0, 1] that stdout begins with; exit code 0."""
    parts = done.stdout.split(maxsplit=1)
    if done.exit_code != 0 or not parts or re.fullmatch(r"\d+(\.\d*)?|\.\d+", parts[0]) is None:
        return None
    score = float(parts[0])
    return score if score <= 1.0 else None


def _testlib(done: Execution) -> float | None:
    """Return the score that a testlib.h exit code means.

    0: right; 1: wrong; 2: badly formatted; 7: the points in stderr (`points X`); 3: the checker failed.
    """
    if done.exit_code == 7:
        points = re.search(r"points\s+(\d+(?:\.\d+)?)", done.stderr)
        return None if points is None or float(points[1]) > 1.0 else float(points[1])
    return {0: 1.0, 1: 0.0, 2: 0.0}.get(done.exit_code)
