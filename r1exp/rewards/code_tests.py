"""Reads the tests of a problem: inputs and outputs of a program, or of a function; or Python code with asserts.

    form of the column                                                    as in
    [{"input": text, "output": text}, ...], or pairs                      open-r1 (code), Codeforces
    {"inputs": [...], "outputs": [...]}, with "fn_name" for a function    APPS, TACO
    [{"input": text, "output": text, "testtype": "functional"}, ...]      LiveCodeBench; an argument a line
    [{"fn_name": f, "input": [args], "output": [value]}, ...]             open-r1 (verifiable coding problems)
    ["assert f(1) == 2", ...]                                             MBPP; each is a case
    "def check(candidate): ..."                                           HumanEval; one case

Each may be JSON text. The name of the function is in the tests, in the column `fn_name`, `func_name` or
`entry_point`, or in `func_name` of `metadata`. A `checker` judges outputs where several are right.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from r1exp.records import Problem
from r1exp.rewards.code_text import language_named, read_cases
from r1exp.sandbox.base import Case, Checker, Language, Submission, Tests
from r1exp.sandbox.verdicts import calling, serving

_NAMES = ("fn_name", "func_name", "entry_point")
_SETUPS = ("test_setup_code", "test_imports")  # of MBPP
_CALLS = ("function_call", "functional")  # names of the type of a test that calls a function


def read_tests(problem: Problem, column: str, language: Language) -> list[Case]:
    """Return the test cases of a row; [] where there are none.

    Args:
        problem: The row.
        column: Its column with the tests.
        language: Of the program. Functions are called in Python and JavaScript, asserts are in Python.

    Raises:
        ValueError: the column has another form, or the tests cannot be run in `language`.
    """
    value = _parsed(problem.columns.get(column))
    if value is None:
        return []
    cases = _asserts(problem, value)
    if cases is None:
        checker = read_checker(problem.columns.get("checker"))
        cases = [replace(case, checker=checker) for case in _inputs_and_outputs(problem, value)]
    forms = {"tests" if case.tests else case.form for case in cases}
    runs_in = {"text": ("python", "cpp", "javascript"), "tests": ("python",)}
    if len(forms) > 1 or not all(language in runs_in.get(form, ("python", "javascript")) for form in forms):
        raise ValueError(f"tests of the kinds {sorted(forms)} cannot be run on one program in {language}")
    return cases


def submission_for(cases: Sequence[Case], submission: Submission) -> Submission:
    """Return the program that runs in the sandbox: `submission` itself, or with what calls its functions."""
    if cases[0].tests is not None:
        return serving(submission)
    return submission if cases[0].form == "text" else calling(submission)


def function_named(problem: Problem) -> str | None:
    """Return the name of the function that the columns of a row name. Raises ValueError for no name."""
    metadata = problem.columns.get("metadata")
    with suppress(ValueError):  # a column of another data set
        metadata = _parsed(metadata)
    places = [problem.columns, metadata if isinstance(metadata, Mapping) else {}]
    for place in places:
        for column in _NAMES:
            if place.get(column):
                return _identifier(place[column])
    return None


def read_checker(value: Any) -> Checker | None:
    """Return the checker of a column: source in Python, or {"source", "language", "protocol"}; None: none.

    Raises:
        ValueError: the column has another form.
    """
    if not value:
        return None
    if isinstance(value, str):
        return Checker(Submission("python", value))
    if not isinstance(value, Mapping) or not isinstance(value.get("source"), str):
        raise ValueError("a checker must be a text, or an object with the text `source`")
    protocol: Any = value.get("protocol") or "score"
    if protocol not in ("score", "testlib"):
        raise ValueError(f"the protocol {protocol!r} of a checker is neither score nor testlib")
    return Checker(Submission(language_named(value.get("language"), "python"), value["source"]), protocol)


def _parsed(value: Any) -> Any:
    """Return the value of JSON text, and anything else, Python code too, as it is. Raises ValueError."""
    if not isinstance(value, str) or "assert" in value:
        return value
    return json.loads(value)  # its JSONDecodeError is a ValueError


def _asserts(problem: Problem, value: Any) -> list[Case] | None:
    """Return the cases of code with asserts; None: the value is something else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value.encode()  # its UnicodeEncodeError is a ValueError
            entry = function_named(problem) if "def check(" in value else ""
            if entry is None:
                raise ValueError("tests with `check(candidate)` need the column entry_point") from None
            return [Case("", "", tests=Tests(value, _setup(problem), entry))]
    if not isinstance(value, Sequence) or not value or not all(isinstance(item, str) for item in value):
        return None
    "".join(value).encode()  # as above
    return [Case("", "", tests=Tests(item, _setup(problem))) for item in value]


def _setup(problem: Problem) -> str:
    """Return the code that runs before tests; of HumanEval the prompt, whose helpers its tests call."""
    parts = []
    for column in _SETUPS:
        value: Any = problem.columns.get(column) or ""
        parts.append(value if isinstance(value, str) else "\n".join(value))
    prompt = problem.columns.get("prompt")
    if isinstance(prompt, str) and f"def {problem.columns.get('entry_point')}(" in prompt:
        parts.append(prompt)
    return "\n".join(parts)


def _inputs_and_outputs(problem: Problem, value: Any) -> list[Case]:
    if isinstance(value, Mapping) and "inputs" in value:
        pairs = list(zip(value["inputs"], value["outputs"], strict=True))
        if not value.get("fn_name"):
            return read_cases([[_joined(text) for text in pair] for pair in pairs])
        name = _identifier(value["fn_name"])
        return [_wrapped(name, given, expected) for given, expected in pairs]
    if isinstance(value, Mapping):
        value = _parsed(value.get("test_cases"))
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"test cases must be a list, not {type(value).__name__}")
    cases: list[Case] = []
    for item in value:
        kind = (item.get("testtype") or item.get("type")) if isinstance(item, Mapping) else None
        if kind not in _CALLS:
            plain = {key: item[key] for key in ("input", "output")} if kind == "stdin" else item
            cases += read_cases([plain])
            continue
        called = item.get("fn_name") or function_named(problem)
        if called is None:
            raise ValueError("tests that call a function need its name, in the column fn_name")
        given, expected = item["input"], item["output"]
        if isinstance(given, str) and isinstance(expected, str):
            arguments = [json.loads(line) for line in given.strip().split("\n")] if given.strip() else []
            cases.append(Case(_call(called, arguments), json.dumps(json.loads(expected)), form="value"))
        else:
            cases.append(_wrapped(_identifier(called), given, expected))
    return cases


def _wrapped(name: str, arguments: Any, expected: Any) -> Case:
    if not isinstance(arguments, list):
        raise ValueError("the input of a function must be the list of its arguments")
    return Case(_call(name, arguments), json.dumps(expected), form="wrapped")


def _call(name: str, arguments: list[Any]) -> str:
    return json.dumps({"name": _identifier(name), "args": arguments})


def _identifier(name: Any) -> str:
    name = str(name).rpartition(".")[2]  # Solution.name, as some rows have it
    if not name.isidentifier():
        raise ValueError(f"{name!r} is not the name of a function")
    return name


def _joined(text: Any) -> Any:
    """Return the lines that APPS sometimes has as a list, as a text."""
    return "\n".join(map(str, text)) if isinstance(text, list) else text
