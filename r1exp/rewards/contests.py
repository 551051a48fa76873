"""Reads what contest problems have beyond test cases: their own limits, a grader, subtasks.

Sources: the data sets open-r1/ioi and open-r1/codeforces, whose columns are read here, and CMS, the
system that runs the IOI.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from r1exp.records import Problem
from r1exp.rewards.code_text import read_cases
from r1exp.sandbox.base import Case, Checker, Limits, Submission

_MIB = 1 << 20


def limits_of(
    limits: Limits, cpu_seconds: float | None, memory_mib: float | None, longest_wall: float
) -> Limits:
    """Return `limits` with those of a problem.

    Args:
        limits: Of the reward.
        cpu_seconds: The problem's time limit for a case; None: that of `limits`.
        memory_mib: The problem's memory limit in MiB; None: that of `limits`.
        longest_wall: The most wall seconds for a case. Twice the CPU seconds plus one are allowed, for a
            busy machine, if they do not exceed it.
    """
    update: dict[str, Any] = {}
    if cpu_seconds is not None:
        update["cpu_seconds"] = float(cpu_seconds)
        update["wall_seconds"] = min(max(2.0 * cpu_seconds + 1.0, limits.wall_seconds), longest_wall)
    if memory_mib is not None:
        update["memory_mib"] = max(1, round(memory_mib))
    return limits.model_copy(update=update)


@dataclass(frozen=True, slots=True)
class Subtask:
    """The points for a set of tests."""

    points: float
    tests: tuple[str, ...]  # names


@dataclass(frozen=True, slots=True)
class Task:
    """An IOI problem: tests by name, subtasks, and the files that are compiled with a submission."""

    tests: Mapping[str, Case]
    subtasks: tuple[Subtask, ...]
    files: Mapping[str, str]  # grader and headers


def subtask_points(subtasks: Sequence[Subtask], scores: Mapping[str, float]) -> float:
    """Return the share of all points; a subtask gives its points times the lowest score of its tests.

    A test without a score counts as 0.
    """
    total = sum(subtask.points for subtask in subtasks)
    earned = sum(
        subtask.points * min(scores.get(name, 0.0) for name in subtask.tests) for subtask in subtasks
    )
    return earned / total


def read_task(problem: Problem) -> Task:
    """Return the task of a row.

    Columns: `test_names` and `test_cases` (in the same order, or by name), `grader_files` (a list of
    [name, text]), and either `subtasks` (a list of {"score", "test_names"}) or one subtask of `score`
    points, as in open-r1/ioi.

    Raises:
        ValueError: the columns have another form.
    """
    columns = problem.columns
    names, cases = columns.get("test_names"), columns.get("test_cases")
    if isinstance(cases, str):
        cases = json.loads(cases)
    if isinstance(cases, Mapping) and "test_cases" not in cases:
        names = names or list(cases)
        cases = [cases[name] for name in names]
    tests = read_cases(cases)
    if not names or len(names) != len(tests):
        raise ValueError(f"{len(names or [])} names for {len(tests)} test cases")
    files = {name: text for name, text in columns.get("grader_files") or [] if text}
    checker = _checker(files)
    compiled = {
        PurePosixPath(name).name: text
        for name, text in files.items()
        if name.startswith("graders/")
        and (name.endswith(".h") or PurePosixPath(name).name in ("grader.cpp", "stub.cpp"))
    }
    tests = [Case(case.stdin, case.expected, checker) for case in tests]
    return Task(dict(zip(names, tests, strict=True)), _subtasks(columns, tuple(names)), compiled)


def _subtasks(columns: Mapping[str, Any], names: tuple[str, ...]) -> tuple[Subtask, ...]:
    listed = columns.get("subtasks")
    if listed is None:
        return (Subtask(float(columns.get("score") or 1.0), names),)
    subtasks = tuple(Subtask(float(item["score"]), tuple(item["test_names"])) for item in listed)
    unknown = {name for subtask in subtasks for name in subtask.tests} - set(names)
    if unknown or not all(subtask.tests for subtask in subtasks) or sum(s.points for s in subtasks) <= 0:
        raise ValueError(f"subtasks need tests and points; unknown tests: {sorted(unknown)}")
    return subtasks


def _checker(files: Mapping[str, str]) -> Checker | None:
    """Return the CMS checker, which prints the score of a test; None: texts are compared."""
    source = files.get("checker/checker.cpp")
    if source is None:
        return None
    headers = {PurePosixPath(name).name: text for name, text in files.items() if name.endswith(".h")}
    return Checker(Submission("cpp", source, headers))


def needs_more_than_a_program(problem: Problem) -> bool:
    """Return whether an IOI task has a manager that talks to the submission, or wants outputs only."""
    names = [name for name, _ in problem.columns.get("grader_files") or []]
    kind = problem.columns.get("task_type") or "Batch"
    return kind != "Batch" or "graders/manager.cpp" in names


def time_of(problem: Problem, factor: float) -> float | None:
    """Return the problem's time limit in CPU seconds, times `factor`; None: it has none."""
    limit = problem.columns.get("time_limit")
    return None if limit is None else float(limit) * factor


def memory_of_ioi(problem: Problem) -> float | None:
    """Return the problem's memory limit in MiB, from a column in bytes; None: it has none."""
    limit = problem.columns.get("memory_limit")
    return None if limit is None else float(limit) / _MIB
