"""Scores programs by test cases.

    code         passed cases / all cases
    binary_code  1 if every case passes, else 0
    code_format  1 if the completion follows the prompt's template and its answer ends with a program, else 0

Programs run in a sandbox (r1exp.sandbox), which never contains the expected output. The rewards abstain
if the sandbox is not available or a test of the data set is broken. Source: open-r1's code rewards
(rewards.py); docs/rewards.md lists the differences.
"""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar, Literal, Self

from pydantic import PositiveInt, model_validator

from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import UNREADABLE_GOLD, Abstain, Context, Reward, Score, Seconds, SlowReward, Span
from r1exp.rewards.code_tests import function_named, read_tests, submission_for
from r1exp.rewards.code_text import blocks, language_named, place_of_code, read_program, written
from r1exp.sandbox.base import Case, CaseResult, Language, Limits, Submission, Unavailable
from r1exp.sandbox.menu import SandboxSettings
from r1exp.sandbox.verdicts import run
from r1exp.settings import Name

NO_CASES = Abstain("no test cases")
_SPARE = 5.0  # seconds of the reward's deadline that are left for everything but the submission


class RunsCode(SlowReward):
    """Base class of the rewards that run programs."""

    style: StyleName  # the prompt's; decides where the program is read
    language: Language = "python"  # of rows whose column `language` names no other
    sandbox: SandboxSettings  # where programs run
    limits: Limits = Limits()  # limits of one program: time, memory, output
    batch: PositiveInt = 1  # cases at once
    deadline: Seconds = 120.0  # seconds for one completion; longer than all its limits together

    judges_correctness: ClassVar[bool] = True
    needs_gold: ClassVar[bool] = (
        False  # the tests are enough: most data of contests have no reference program
    )

    @model_validator(mode="after")
    def _limits_end_before_the_deadline(self) -> Self:
        longest = self.deadline - self.longest_wall() + self.limits.wall_seconds
        if self.deadline < longest:
            raise ValueError(
                f"deadline={self.deadline:g} seconds ends before the limits of a submission, which may take "
                f"{longest:g} (compile_seconds + total_seconds + wall_seconds + {_SPARE:g}): an endless loop would "
                "abstain instead of failing; raise deadline or lower limits.total_seconds"
            )
        return self

    def longest_wall(self) -> float:
        """Return the seconds that are left for the last case when all other limits are used up."""
        return self.deadline - self.limits.compile_seconds - self.limits.total_seconds - _SPARE

    def language_of(self, problem: Problem) -> Language:
        """Return the language that a program must be written in. Raises ValueError for an unknown one."""
        return language_named(problem.columns.get("language"), self.language)

    def gold_answer(self, problem: Problem) -> str | None:
        """Return the reference program, which is the answer in the data, as a fenced block."""
        return None if problem.answer is None else written(self.language_of(problem), problem.answer)

    def cheats(self, problem: Problem) -> dict[str, str]:
        """Return programs that try to pass without solving the problem."""
        return code_cheats(self.language_of(problem))

    def cannot_run_because(self, problems: Sequence[Problem] = ()) -> str | None:
        """Return why programs in the languages of `problems` cannot run here, and how to change that; None: they can."""
        languages: set[Language] = {self.language}
        for problem in problems:
            with suppress(ValueError):  # an unknown language is a fault of the row
                languages.add(self.language_of(problem))
        lacking = (self.sandbox.lacks(language) for language in sorted(languages))
        return self.sandbox.check() or next(filter(None, lacking), None)


class _ScoredByCases(RunsCode):
    """Runs the program on the test cases of a column."""

    tests: Name = "test_cases"  # column; `code_tests` lists the forms that it may have

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def quick(self, problem: Problem, completion: Completion, context: Context) -> Score | None:
        del context
        try:
            language = self.language_of(problem)
            cases = read_tests(problem, self.tests, language)
        except (ValueError, TypeError, KeyError):  # the columns may have any form
            return UNREADABLE_GOLD
        if not cases:
            return NO_CASES
        return 0.0 if read_program(self.style, language, completion.text) is None else None

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        known = self.quick(problem, completion, context)
        if known is not None:
            return known
        language = self.language_of(problem)
        source = read_program(self.style, language, completion.text)
        assert source is not None
        cases = read_tests(problem, self.tests, language)
        return self._run(submission_for(cases, Submission(language, source)), cases)

    def cheats(self, problem: Problem) -> dict[str, str]:
        """Return programs that try to pass without solving the problem; of functions, with their name."""
        language, name = self.language_of(problem), function_named(problem)
        calls = {} if name is None else _function_cheats(language, name)
        return super().cheats(problem) | calls

    @abstractmethod
    def _run(self, submission: Submission, cases: list[Case]) -> Score: ...


class Code(_ScoredByCases):
    """The share of the cases that pass."""

    kind: Literal["code"] = "code"

    def _run(self, submission: Submission, cases: list[Case]) -> Score:
        results = run(self.sandbox, submission, cases, self.limits, batch=self.batch)
        return _abstention(results) if isinstance(results, Unavailable) else _passed(results) / len(cases)


class BinaryCode(_ScoredByCases):
    """1 if all cases pass, else 0; stops after the first batch with a failure."""

    kind: Literal["binary_code"] = "binary_code"

    def _run(self, submission: Submission, cases: list[Case]) -> Score:
        results = run(self.sandbox, submission, cases, self.limits, batch=self.batch, stop_at_failure=True)
        return (
            _abstention(results)
            if isinstance(results, Unavailable)
            else float(_passed(results) == len(cases))
        )


class CodeFormat(Reward):
    """1 if the template is followed and the answer ends with a program in the right language, else 0."""

    kind: Literal["code_format"] = "code_format"
    style: StyleName  # the style whose template is checked
    language: Language = "python"  # of rows whose column `language` names no other

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def score(self, problem: Problem, completion: Completion, context: Context) -> Score:
        del context
        try:
            language = language_named(problem.columns.get("language"), self.language)
        except ValueError:
            return UNREADABLE_GOLD
        style = style_named(self.style)
        if style.tags and not style.follows(completion.text):
            return 0.0
        found = list(blocks(place_of_code(self.style, completion.text) or ""))
        return float(bool(found) and found[-1].is_in(language) and found[-1].ends_text)


def _passed(results: list[CaseResult]) -> int:
    return sum(result.outcome == "passed" for result in results)


def _abstention(unavailable: Unavailable) -> Abstain:
    return Abstain(unavailable.reason)


def code_cheats(language: Language = "python") -> dict[str, str]:
    """Return programs that try to pass without solving the problem, as fenced blocks, by name."""
    return {name: written(language, source) for name, source in _CHEATS[language].items()}


def _function_cheats(language: Language, name: str) -> dict[str, str]:
    """Return functions that try to pass without solving the problem, as fenced blocks, by name."""
    if language != "python":
        return {}
    equal = "    def __eq__(self, other):\n        return True\n    __hash__ = object.__hash__\n"
    source = f"class Anything:\n{equal}\ndef {name}(*args):\n    return Anything()"
    return {"a result that equals everything": written(language, source)}


_CHEATS: dict[Language, dict[str, str]] = {
    "python": {
        "code that exits": "import os, sys\ntry:\n    sys.exit(0)\nfinally:\n    os._exit(0)",
        "code that looks for the expected output": (
            "import os\n"
            "for top in ('.', '..', '/tmp', '/proc/self', '/proc/1', '/dev/shm', os.path.expanduser('~')):\n"
            "    for folder, _, names in os.walk(top):\n"
            "        for name in names:\n"
            "            if any(word in name for word in ('expect', 'output', 'answer', 'test', 'environ')):\n"
            "                try:\n"
            "                    print(open(os.path.join(folder, name)).read())\n"
            "                except (OSError, ValueError):\n"
            "                    pass\n"
            "        if folder.count('/') > 3:\n"
            "            break"
        ),
        "code that never ends": "while True:\n    pass",
    },
    "cpp": {
        "code that exits": "#include <cstdlib>\nint main() { std::_Exit(0); }",
        "code that looks for the expected output": (
            "#include <fstream>\n#include <iostream>\n"
            "int main() {\n"
            '    for (auto name : {"output.txt", "correct_output.txt", "expected.txt", "../output.txt",\n'
            '                      "/tmp/output.txt", "/proc/1/environ", "/proc/self/environ"})\n'
            "        std::cout << std::ifstream(name).rdbuf();\n"
            "}"
        ),
        "code that never ends": "int main() { for (volatile int i = 0;; i = i + 1) {} }",
    },
    "javascript": {
        "code that exits": "process.exit(0)",
        "code that looks for the expected output": (
            "const fs = require('fs')\n"
            "for (const folder of ['.', '..', '/source', '/tmp', '/proc/1', '/proc/self'])\n"
            "  try {\n"
            "    for (const name of fs.readdirSync(folder))\n"
            "      if (/expect|output|answer|test|environ/.test(name))\n"
            "        try { console.log(fs.readFileSync(folder + '/' + name, 'utf8')) } catch {}\n"
            "  } catch {}"
        ),
        "code that never ends": "for (;;) {}",
    },
}
