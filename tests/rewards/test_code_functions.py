"""Functions are tested without showing their tests to them: no program can pass by its own word."""

import json
import textwrap
from typing import Any

import pytest

from r1exp.records import Completion, Problem
from r1exp.rewards.base import UNREADABLE_GOLD, Abstain, Context, Score
from r1exp.rewards.code import Code
from r1exp.rewards.code_tests import read_tests
from r1exp.sandbox.base import Language, Limits
from r1exp.sandbox.bubblewrap import node
from r1exp.sandbox.local import Local
from r1exp.sandbox.piston import Piston

LIMITS = Limits(cpu_seconds=1.0, wall_seconds=20.0, max_timeouts=1, memory_mib=256)
REWARD = Code(style="plain", sandbox=Local(), limits=LIMITS)
SORT = "def top(numbers, k):\n    return sorted(numbers)[-k:]"
SORT_JS = "const top = (numbers, k) => numbers.sort((a, b) => a - b).slice(-k)"

LIVECODEBENCH = {
    "test_cases": json.dumps([{"input": "[3, 1, 2]\n2", "output": "[2, 3]", "testtype": "functional"}]),
    "metadata": json.dumps({"func_name": "top"}),
}
APPS = {"test_cases": {"fn_name": "top", "inputs": [[[3, 1, 2], 2]], "outputs": [[[2, 3]]]}}
OPEN_R1 = {
    "test_cases": [{"fn_name": "top", "input": [[3, 1, 2], 2], "output": [[2, 3]], "type": "function_call"}]
}
MBPP = {"test_cases": ["assert top([3, 1, 2], 2) == [2, 3]", "assert math.isclose(top([1.5], 1)[0], 1.5)"]}
HUMANEVAL = {
    "test_cases": "def check(candidate):\n    for _ in range(3):\n        assert candidate([3, 1, 2], 2) == [2, 3]\n",
    "entry_point": "top",
}
FORMS: dict[str, dict[str, Any]] = {
    "LiveCodeBench": LIVECODEBENCH,
    "APPS": APPS,
    "open-r1": OPEN_R1,
    "MBPP": MBPP,
    "HumanEval": HUMANEVAL,
}
each_form = pytest.mark.parametrize("columns", FORMS.values(), ids=FORMS)


def score(source: str, columns: dict[str, Any], language: Language = "python") -> Score:
    text = f"```{language}\n{textwrap.dedent(source)}\n```"
    problem = Problem("top", "The k largest numbers.", None, columns | {"language": language})
    return REWARD.score(problem, Completion(text, 20), Context())


@each_form
def test_a_right_function_passes_and_a_wrong_one_does_not(columns: dict[str, Any]) -> None:
    assert score(SORT, columns) == 1.0
    assert score("class Solution:\n    def top(self, n, k):\n        return sorted(n)[-k:]", columns) == (
        0.0 if columns in (MBPP, HUMANEVAL) else 1.0  # these call a function of the module
    )
    assert score("print('loaded')\n" + SORT, columns) == 1.0
    assert score(SORT.replace("-k", "k"), columns) == 0.0
    assert score("def bottom(numbers, k): return [2, 3]", columns) == 0.0


@pytest.mark.skipif(Local().lacks("javascript") is not None, reason="node is not installed")
@pytest.mark.parametrize("columns", [LIVECODEBENCH, APPS, OPEN_R1], ids=["LiveCodeBench", "APPS", "open-r1"])
def test_a_function_in_javascript_passes_or_not(columns: dict[str, Any]) -> None:
    assert score("console.log('loaded')\n" + SORT_JS, columns, "javascript") == 1.0
    solution = "class Solution { top(n, k) { return n.sort().slice(-k) } }"
    assert score(solution, columns, "javascript") == 1.0
    assert score("async function top() { return [2, 3] }", columns, "javascript") == 1.0
    assert score(SORT_JS.replace("-k", "k"), columns, "javascript") == 0.0
    for cheat in (
        "process.exit(0)",
        "require('fs').writeSync(1, '[2, 3]'); process.exit(0)"
        if columns is MBPP
        else "console.log('[2, 3]')",
        "JSON.stringify = () => '\"passed\"'; const top = () => 1",
        "const top = () => ({toJSON: () => true})",
    ):
        assert score(cheat, columns, "javascript") == 0.0


CHEATS = {
    "ends early": "import sys; sys.exit(0)",
    "ends at once": "import os; os._exit(0)",
    "prints the pass mark": "print('passed'); print('True'); print(1.0)\ndef top(*args): print('passed')",
    "writes a pass mark to every descriptor": """
        import os
        def top(*args):
            for fd in range(64):
                try: os.write(fd, b'passed\\n{"value": true}\\n[]\\n')
                except OSError: pass
            os._exit(0)
        """,
    "equals everything": """
        class Any:
            def __eq__(self, other): return True
            def __len__(self): return 2
            def __iter__(self): return iter([self, self])
            def __bool__(self): return True
            __hash__ = None
        def top(*args): return Any()
        """,
    "is a list that equals everything": """
        class Any(list):
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __repr__(self): return '[2, 3]'
        def top(*args): return Any([9])
        """,
    "changes json": """
        import json
        json.dumps = json.dump = lambda *args, **named: '"passed"'
        json.loads = lambda *args, **named: True
        def top(*args): return 9
        """,
    "changes exit": """
        import os, sys
        os._exit = sys.exit = lambda *args: None
        import builtins
        builtins.AssertionError = type('E', (), {})
        builtins.all = builtins.any = lambda *args: True
        def top(*args): return 9
        """,
    "redefines what the tests use": """
        def isclose(*args, **named): return True
        class math: isclose = isclose
        def check(candidate): pass
        def abs(x): return 0
        def len(x): return 2
        def candidate(*args): return [2, 3]
        def top(*args): return [9]
        """,
    "reads the stack": """
        import gc, sys
        def top(*args):
            frame = sys._getframe()
            while frame:
                for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):
                    if value == [2, 3]: return value
                frame = frame.f_back
            for value in gc.get_objects():
                if type(value) is list and value == [2, 3] or type(value) is dict and 'expected' in value: return value
            return 0
        """,
    "raises what ends the tests": "def top(*args): raise SystemExit(0)",
    "names its error SystemExit": """
        class SystemExit(Exception): pass
        def top(*args): raise SystemExit(0)
        """,
    "changes its argument": "def top(numbers, k):\n    numbers[:] = []\n    return numbers",
    "leaves a process that answers": """
        import os, time
        if os.fork() == 0:
            for _ in range(100):
                try: os.write(1, b'{"value": true}\\n')
                except OSError: pass
                time.sleep(0.01)
        def top(*args): return 0
        """,
}  # fmt: skip


@pytest.mark.parametrize("form", ["LiveCodeBench", "MBPP", "HumanEval"])  # the others run like the first
@pytest.mark.parametrize("cheat", CHEATS.values(), ids=CHEATS)
def test_no_cheat_passes(cheat: str, form: str) -> None:
    assert score(cheat, FORMS[form]) == 0.0


def test_an_object_of_the_program_can_be_used_by_the_tests_but_equals_only_itself() -> None:
    source = """
        class Pair:
            def __init__(self, a, b): self.a, self.b = a, b
            def __eq__(self, other): return True
            def sum(self): return self.a + self.b
        def longest(pairs): return max(p.b for p in pairs)
        def count(n):
            for i in range(n): yield i
        def fail(): raise KeyError("no")
        """
    asserts = [
        "assert longest([Pair(1, 5), Pair(2, 7)]) == 7",
        "assert Pair(1, 2).sum() == 3 and Pair(1, 2).a == 1",
        "assert list(count(3)) == [0, 1, 2]",
        "try:\n    fail()\n    assert False\nexcept KeyError:\n    pass",
    ]
    assert score(source, {"test_cases": asserts}) == 1.0
    assert score(source, {"test_cases": ["assert Pair(1, 2) == 3"]}) == 0.0


def test_values_of_every_kind_reach_the_tests() -> None:
    values = [
        "None",
        "True",
        "2 ** 70",
        "-0.5",
        "'é\\n'",
        "b'x'",
        "1j",
        "(1, (2,))",
        "{1, 2}",
        "{'a': [1], 2: (3,)}",
    ]
    asserts = [
        f"assert same({value}) == {value} and type(same({value})) is type({value})" for value in values
    ]
    assert score("def same(x):\n    return x", {"test_cases": asserts}) == 1.0


def test_tests_may_define_and_import_what_they_need() -> None:
    columns = {
        "test_cases": ["assert near(half(3), 1.5)"],
        "test_setup_code": "def near(a, b): return abs(a - b) < 1e-9",
        "test_imports": ["import math"],
    }
    source = "def near(a, b):\n    return True\ndef half(x):\n    return "
    assert score(source + "x / 2", columns) == 1.0
    assert score(source + "0", columns) == 0.0  # the setup's `near` counts, not the program's


@pytest.mark.parametrize(
    ("expected", "produced", "share"),
    [
        pytest.param("0.3", "0.1 + 0.2", 1.0, id="rounding"),
        pytest.param("1", "True", 0.0, id="a truth value is no number"),
        pytest.param("[1, 2]", "(1, 2)", 1.0, id="a tuple is a list"),
        pytest.param('{"1": 2}', "{1: 2}", 1.0, id="keys are texts"),
        pytest.param('"1"', "1", 0.0, id="a text is no number"),
        pytest.param("[5]", "5", 0.0, id="a value is no list"),
        pytest.param("null", "None", 1.0, id="nothing"),
        pytest.param("1", "object()", 0.0, id="not JSON"),
        pytest.param("1", "float('nan')", 0.0, id="not a number"),
    ],
)
def test_returned_values_are_compared_as_json(expected: str, produced: str, share: float) -> None:
    case = {"input": "", "output": expected, "testtype": "functional"}
    assert score(f"def f():\n    return {produced}", {"test_cases": [case], "fn_name": "f"}) == share


def test_a_checker_judges_where_several_outputs_are_right() -> None:
    checker = "import sys; print(int(sorted(open(sys.argv[2]).read().split()) == sorted(open(sys.argv[3]).read().split())))"
    columns = {"test_cases": [["", "a b"]], "checker": checker}
    assert score("print('b a')", columns) == 1.0
    assert score("print('b c')", columns) == 0.0
    assert score("print('b a')", columns | {"checker": "raise SystemExit(1)"}) == Abstain("checker broken")


def test_an_endless_function_is_a_wrong_one() -> None:
    assert score("def top(*args):\n    while True: pass", MBPP) == 0.0


@pytest.mark.parametrize(
    ("columns", "language"),
    [
        pytest.param({"test_cases": [{"input": "", "output": "1", "testtype": "functional"}]}, "python", id="no name"),
        pytest.param(LIVECODEBENCH, "cpp", id="a function in C++"),
        pytest.param(MBPP, "javascript", id="asserts on JavaScript"),
        pytest.param({"test_cases": {"fn_name": "a b", "inputs": [[1]], "outputs": [1]}}, "python", id="no identifier"),
        pytest.param({"test_cases": {"fn_name": "f", "inputs": [[1]], "outputs": []}}, "python", id="no output"),
        pytest.param({"test_cases": "def check(candidate): assert True"}, "python", id="no entry point"),
        pytest.param({"test_cases": [["", "1"]], "checker": 3}, "python", id="no checker"),
    ],
)  # fmt: skip
def test_unusable_tests_abstain(columns: dict[str, Any], language: Language) -> None:
    assert score("def f(): pass", columns, language) == UNREADABLE_GOLD


def test_tests_that_do_not_compile_abstain() -> None:
    assert score(SORT, {"test_cases": ["assert top("]}) == Abstain("checker broken")


def test_asserts_need_a_local_sandbox() -> None:
    remote = Piston(urls=("http://127.0.0.1:9/api/v2",), retries=0)
    with pytest.raises(Exception, match=r"sandbox\.kind=local"):
        remote.converse(*[None] * 4)  # type: ignore[arg-type]


def test_a_lone_surrogate_is_a_wrong_program_and_in_a_test_broken_data() -> None:
    assert score("print('\ud800')", {"test_cases": [["", "x"]]}) == 0.0
    assert score("def top(*a): return '\ud800'", MBPP) == 0.0
    assert score("print(1)", {"test_cases": [["\ud800", "x"]]}) == UNREADABLE_GOLD


def test_plain_forms_are_still_read() -> None:
    problem = Problem("x", "", None, {"t": {"inputs": ["1\n", ["1", "2"]], "outputs": ["1", ["3"]]}})
    assert [(case.stdin, case.expected) for case in read_tests(problem, "t", "cpp")] == [
        ("1\n", "1"),
        ("1\n2", "3"),
    ]


def test_node_is_found() -> None:
    if Local().lacks("javascript") is None:
        assert node()[0].startswith(node()[1])
