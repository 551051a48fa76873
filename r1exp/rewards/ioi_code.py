"""Scores a program by the points of an IOI problem.

    score = sum over subtasks of points * (lowest score of its tests) / all points

A row of open-r1/ioi is one subtask; its score is the lowest score of its tests. The problem's grader is
compiled with the program and its checker judges the output; both come from the data set (columns in
`contests.read_task`). Source: open-r1's ioi_code_reward.
"""

from typing import Literal

from pydantic import PositiveFloat

from r1exp.records import Completion, Problem
from r1exp.rewards.base import UNREADABLE_GOLD, Abstain, Context, Score, Span
from r1exp.rewards.code import NO_CASES, RunsCode
from r1exp.rewards.code_text import read_program
from r1exp.rewards.contests import (
    Task,
    limits_of,
    memory_of_ioi,
    needs_more_than_a_program,
    read_task,
    subtask_points,
    time_of,
)
from r1exp.sandbox.base import Language, Limits, Submission, Unavailable
from r1exp.sandbox.verdicts import run

UNSUPPORTED = Abstain("task type not supported")


class IoiCode(RunsCode):
    """The share of the points of all subtasks, in C++."""

    kind: Literal["ioi_code"] = "ioi_code"
    language: Language = "cpp"  # programming language of the answer
    time_factor: PositiveFloat = 1.0  # multiplies the problem's own time limit

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def quick(self, problem: Problem, completion: Completion, context: Context) -> Score | None:
        del context
        if needs_more_than_a_program(problem):
            return UNSUPPORTED
        if not problem.columns.get("test_cases"):
            return NO_CASES
        try:
            read_task(problem)
            language = self.language_of(problem)
        except (ValueError, TypeError, KeyError):  # the columns may have any form
            return UNREADABLE_GOLD
        return 0.0 if read_program(self.style, language, completion.text) is None else None

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        known = self.quick(problem, completion, context)
        if known is not None:
            return known
        task, language = read_task(problem), self.language_of(problem)
        source = read_program(self.style, language, completion.text)
        assert source is not None
        if language == "cpp":
            source = with_includes(source, str(problem.columns.get("problem_id") or problem.id), task.files)
        seconds, memory_mib = time_of(problem, self.time_factor), memory_of_ioi(problem)
        limits = limits_of(self.limits, seconds, memory_mib, self.longest_wall())
        scores = self._scores(Submission(language, source, task.files), task, limits)
        if isinstance(scores, Unavailable):
            return Abstain(scores.reason)
        return subtask_points(task.subtasks, scores)

    def _scores(self, submission: Submission, task: Task, limits: Limits) -> dict[str, float] | Unavailable:
        """Run each test once; a subtask ends after the first batch that contains a score of 0."""
        scores: dict[str, float] = {}
        for subtask in task.subtasks:
            if any(scores.get(name) == 0.0 for name in subtask.tests):
                continue
            new = [name for name in subtask.tests if name not in scores]
            cases = [task.tests[name] for name in new]
            results = run(self.sandbox, submission, cases, limits, batch=self.batch, stop_at_failure=True)
            if isinstance(results, Unavailable):
                return results
            scores |= {name: result.score for name, result in zip(new, results, strict=False)}
        return scores


def with_includes(source: str, problem_id: str, files: object) -> str:
    """Return `source` with what contestants leave out.

    These are the standard headers, the problem's own header, and `using namespace std`.
    """
    header = f"{problem_id.lower()}.h"
    lines = ["#include <bits/stdc++.h>"]
    if isinstance(files, dict) and header in files and f'#include "{header}"' not in source:
        lines.append(f'#include "{header}"')
    if "using namespace std" not in source:
        lines.append("using namespace std;")
    return "\n".join([*lines, source])
