"""Does the program do what the test cases ask for?

    code         passed cases / all cases
    binary_code  1 if every case passes, else 0
    code_format  1 if the completion follows the prompt's template and a program ends its answer, else 0

Programs run in a sandbox (r1exp.sandbox), which never gets to see the expected output. A sandbox that
is not there, or a data set's broken test, abstains. Source: open-r1's code rewards (rewards.py);
docs/rewards.md lists what differs.
"""

from abc import abstractmethod
from typing import ClassVar, Literal, Self

from pydantic import PositiveInt, model_validator

from r1exp.prompt.settings import StyleName
from r1exp.prompt.style import style_named
from r1exp.records import Completion, Problem
from r1exp.rewards.base import UNREADABLE_GOLD, Abstain, Context, Reward, Score, Seconds, SlowReward, Span
from r1exp.rewards.code_text import blocks, language_named, place_of_code, read_cases, read_program, written
from r1exp.sandbox.base import Case, CaseResult, Language, Limits, Submission, Unavailable
from r1exp.sandbox.menu import SandboxSettings
from r1exp.sandbox.verdicts import run
from r1exp.settings import Name

NO_CASES = Abstain("no test cases")
_SPARE = 5.0  # seconds that the reward's deadline leaves for everything but the submission


class RunsCode(SlowReward):
    """What rewards that run programs have in common."""

    style: StyleName  # the prompt's; says where the program stands
    language: Language = "python"  # unless the data's column `language` names another
    sandbox: SandboxSettings
    limits: Limits = Limits()
    batch: PositiveInt = 1  # cases at once
    deadline: Seconds = 120.0  # seconds for one completion; longer than all its limits together

    judges_correctness: ClassVar[bool] = True

    @model_validator(mode="after")
    def _limits_come_before_the_deadline(self) -> Self:
        longest = self.deadline - self.longest_wall() + self.limits.wall_seconds
        if self.deadline < longest:
            raise ValueError(
                f"deadline={self.deadline:g} seconds ends before the limits of a submission, which may take "
                f"{longest:g} (compile_seconds + total_seconds + wall_seconds + {_SPARE:g}): an endless loop would "
                "abstain instead of failing; raise deadline or lower limits.total_seconds"
            )
        return self

    def longest_wall(self) -> float:
        """Return the seconds that the deadline leaves for the last case, when all other limits are used up."""
        return self.deadline - self.limits.compile_seconds - self.limits.total_seconds - _SPARE

    def language_of(self, problem: Problem) -> Language:
        """Return the language a program must be written in. Raises ValueError."""
        return language_named(problem.columns.get("language"), self.language)

    def gold_answer(self, problem: Problem) -> str | None:
        """The data's answer is a reference program."""
        return None if problem.answer is None else written(self.language_of(problem), problem.answer)

    def cheats(self, problem: Problem) -> dict[str, str]:
        """Programs that try to pass without solving anything."""
        return code_cheats(self.language_of(problem))

    def cannot_run_because(self) -> str | None:
        """Say why the sandbox cannot run anything here and how to change that; None: it can."""
        return self.sandbox.check()


class _OfCases(RunsCode):
    """A program is run on the cases of a column."""

    tests: Name = "test_cases"  # column: see `read_cases` for its forms

    @property
    def span(self) -> Span:
        return (0.0, 1.0)

    def quick(self, problem: Problem, completion: Completion, context: Context) -> Score | None:
        del context
        try:
            cases, language = read_cases(problem.columns.get(self.tests)), self.language_of(problem)
        except ValueError:
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
        return self._run(Submission(language, source), read_cases(problem.columns[self.tests]))

    @abstractmethod
    def _run(self, submission: Submission, cases: list[Case]) -> Score: ...


class Code(_OfCases):
    """A share of the points for a share of the cases."""

    kind: Literal["code"] = "code"

    def _run(self, submission: Submission, cases: list[Case]) -> Score:
        results = run(self.sandbox, submission, cases, self.limits, batch=self.batch)
        return _abstention(results) if isinstance(results, Unavailable) else _passed(results) / len(cases)


class BinaryCode(_OfCases):
    """All cases or nothing; stops at the first batch with a failure."""

    kind: Literal["binary_code"] = "binary_code"

    def _run(self, submission: Submission, cases: list[Case]) -> Score:
        results = run(self.sandbox, submission, cases, self.limits, batch=self.batch, stop_at_failure=True)
        return (
            _abstention(results)
            if isinstance(results, Unavailable)
            else float(_passed(results) == len(cases))
        )


class CodeFormat(Reward):
    """The template, with one program of the right language as the last thing in its answer."""

    kind: Literal["code_format"] = "code_format"
    style: StyleName  # whose template
    language: Language = "python"  # unless the data's column `language` names another

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
    """Return programs that try to pass without solving anything, fenced, by name."""
    return {name: written(language, source) for name, source in _CHEATS[language].items()}


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
}
