"""Programs run in the local sandbox as they do outside of it, within their limits."""

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from r1exp.sandbox import bubblewrap, local
from r1exp.sandbox.base import Case, CaseResult, Invocation, Language, Limits, Submission, Unavailable
from r1exp.sandbox.local import Local
from r1exp.sandbox.verdicts import run

Judge = Callable[[Submission, Sequence[Case], Limits], list[CaseResult] | Unavailable]

ADD = "print(sum(map(int, input().split())))"
ADD_CPP = """
#include <iostream>
int main() { long long a, b; std::cin >> a >> b; std::cout << a + b << std::endl; }
"""


def verdicts(results: list[CaseResult] | Unavailable) -> list[str]:
    assert isinstance(results, list), results
    return [result.outcome for result in results]


@pytest.mark.parametrize(
    "submission",
    [
        pytest.param(Submission("python", ADD), id="python"),
        pytest.param(Submission("cpp", ADD_CPP), id="cpp"),
        pytest.param(
            Submission("python", "print(sum(map(int, open('/dev/stdin').read().split())))"), id="dev stdin"
        ),
        pytest.param(
            Submission("python", "from add import main\nmain()", {"add.py": f"def main(): {ADD}"}),
            id="module",
        ),
    ],
)
def test_each_case_is_judged_separately(judge: Judge, limits: Limits, submission: Submission) -> None:
    cases = [Case("1 2\n", "3\n"), Case("1 2\n", "4"), Case("20 22", "42\n\n")]
    assert verdicts(judge(submission, cases, limits)) == ["passed", "wrong", "passed"]


@pytest.mark.parametrize(
    ("language", "source", "outcome"),
    [
        pytest.param("python", "while True: pass", "timeout", id="endless loop"),
        pytest.param("python", "rows = [bytearray(1 << 24) for _ in range(64)]", "memory", id="python memory"),
        pytest.param("cpp", "#include <vector>\nint main() { std::vector<char> v(1 << 30); return v[9]; }", "memory", id="cpp memory"),
        pytest.param("python", "raise SystemExit(3)", "crash", id="exit code"),
        pytest.param("cpp", "int main() { volatile int* p = nullptr; return *p; }", "crash", id="segmentation fault"),
        pytest.param("cpp", "int main() { return oops; }", "compile_error", id="does not compile"),
        pytest.param("python", "print(3", "crash", id="syntax error"),
        pytest.param("python", "open('big', 'wb').write(bytes(1 << 25))", "crash", id="big file"),
    ],
)  # fmt: skip
def test_each_kind_of_failure_has_its_outcome(
    limits: Limits, language: Language, source: str, outcome: str
) -> None:
    assert verdicts(run(Local(), Submission(language, source), [Case("", "")], limits)) == [outcome]


def test_a_program_that_sleeps_exceeds_the_wall_time(impatient: Limits) -> None:
    answer = run(Local(), Submission("python", "import time; time.sleep(60)"), [Case("", "")], impatient)
    assert verdicts(answer) == ["timeout"]


def test_the_stack_of_a_cpp_program_may_use_the_memory_limit(limits: Limits) -> None:
    source = """
    #include <cstdio>
    int depth(int n, volatile char* above) { volatile char here[100]; here[0] = *above;
        return n ? 1 + depth(n - 1, here) : 0; }
    int main() { volatile char top = 0; std::printf("%d", depth(300000, &top)); }
    """  # about 48 MB of stack
    assert verdicts(run(Local(), Submission("cpp", source), [Case("", "300000")], limits)) == ["passed"]


def test_the_cpu_limit_is_more_exact_than_the_whole_seconds_of_the_kernel(limits: Limits) -> None:
    tenths = limits.model_copy(update={"cpu_seconds": 0.3, "wall_seconds": 20.0})
    answer = run(Local(), Submission("python", "while True: pass"), [Case("", "")], tenths)
    assert verdicts(answer) == ["timeout"]
    assert isinstance(answer, list)
    assert 0.3 < answer[0].cpu_seconds < 0.8


@pytest.mark.parametrize(
    "bound",
    [pytest.param({"total_seconds": 0.3}, id="time"), pytest.param({"max_timeouts": 2}, id="timeouts")],
)
def test_cases_beyond_a_limit_on_all_cases_are_not_run(limits: Limits, bound: dict[str, float]) -> None:
    short = limits.model_copy(update={"wall_seconds": 0.2, "total_seconds": 60.0, "max_timeouts": 50} | bound)
    results = run(Local(), Submission("python", "import time; time.sleep(9)"), [Case("", "")] * 50, short)
    assert verdicts(results) == ["timeout"] * 50
    assert isinstance(results, list)
    assert [result.detail.startswith("not run") for result in results] == [False] * 2 + [True] * 48


def test_cpp_is_compiled_once_for_many_cases(monkeypatch: pytest.MonkeyPatch, limits: Limits) -> None:
    jobs = []
    real = local.process.run

    def noted(job: local.process.Job) -> Any:
        jobs.append(job.program)
        return real(job)

    monkeypatch.setattr(local.process, "run", noted)
    source = ADD_CPP + f"// {time.time_ns()}"  # not compiled before
    assert verdicts(run(Local(), Submission("cpp", source), [Case("1 2", "3")] * 5, limits)) == ["passed"] * 5
    assert sum("/usr/bin/g++" in " ".join(program) for program in jobs) == 1
    assert len(jobs) == 6


def test_a_case_cannot_see_the_scratch_files_of_another(limits: Limits) -> None:
    source = "import os; print(os.listdir()); open('left', 'w').write('x')"
    assert (
        verdicts(run(Local(), Submission("python", source), [Case("", "[]")] * 2, limits)) == ["passed"] * 2
    )


def test_a_program_prints_a_set_of_words_in_the_same_order_every_time(limits: Limits) -> None:
    source = "import sys; print({'a', 'b', 'c', 'd', 'e', 'f', 'g'})"
    with Local().prepared(Submission("python", source), limits) as execute:
        assert len({execute(Invocation()).stdout for _ in range(4)}) == 1


def test_with_stop_at_failure_no_case_runs_after_a_failure(limits: Limits) -> None:
    cases = [Case("1 1", "2"), Case("1 1", "3"), Case("1 1", "2")]
    results = run(Local(), Submission("python", ADD), cases, limits, stop_at_failure=True)
    assert verdicts(results) == ["passed", "wrong"]


def test_without_bubblewrap_nothing_runs_and_the_reason_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, limits: Limits
) -> None:
    bubblewrap._tool.cache_clear()
    local._checked.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    answer = run(Local(), Submission("python", "open('/tmp/ran', 'w')"), [Case("", "")], limits)
    local._checked.cache_clear()
    assert isinstance(answer, Unavailable)
    assert answer.reason == "sandbox unavailable"
    assert "apt-get install bubblewrap" in answer.detail


def test_without_permission_to_create_namespaces_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limits: Limits
) -> None:
    stub = tmp_path / "bwrap"
    stub.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    stub.chmod(0o755)
    local._checked.cache_clear()
    monkeypatch.setattr(
        bubblewrap, "_tool", lambda name: str(stub) if name == "bwrap" else f"/usr/bin/{name}"
    )
    answer = run(Local(), Submission("python", ADD), [Case("1 2", "3")], limits)
    local._checked.cache_clear()
    assert isinstance(answer, Unavailable)
    assert "No permissions to create new namespace" in answer.detail
    assert "--cap-add SYS_ADMIN" in answer.detail


def test_a_python_that_does_not_exist_is_named(limits: Limits) -> None:
    answer = run(Local(python="/no/python"), Submission("python", ADD), [Case("1 2", "3")], limits)
    assert isinstance(answer, Unavailable)
    assert "sandbox.python=/no/python" in answer.detail


def test_a_compiler_that_does_not_exist_is_named(limits: Limits) -> None:
    answer = run(Local(compiler="/no/g++"), Submission("cpp", ADD_CPP), [Case("1 2", "3")], limits)
    assert isinstance(answer, Unavailable)
    assert "apt-get install g++" in answer.detail


def _num_open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_file_descriptor_is_left_open(limits: Limits) -> None:
    run(Local(), Submission("python", ADD), [Case("1 2", "3")], limits)
    before = _num_open_files()
    run(Local(), Submission("python", ADD), [Case("1 2", "3")] * 3, limits, batch=2)
    assert _num_open_files() == before


def test_where_no_limits_can_be_set_nothing_runs(monkeypatch: pytest.MonkeyPatch, limits: Limits) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr(bubblewrap, "set_limits", refuse)
    answer = run(Local(), Submission("python", ADD), [Case("1 2", "3")], limits)
    assert isinstance(answer, Unavailable)
    assert "not yours" in answer.detail


def test_where_user_namespaces_are_off_nothing_runs_and_the_reason_says_what_to_allow() -> None:
    """In a namespace of its own, the limit on user namespaces is 0; the machine's is not changed."""
    inside = "echo 0 > /proc/sys/user/max_user_namespaces && exec " + shlex.join(
        [sys.executable, "-c", "from r1exp.sandbox.local import Local; print(Local().check())"]
    )
    command = ["unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", inside]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    if "unshare failed" in done.stderr:
        pytest.skip("user namespaces are off here")
    assert "kernel.unprivileged_userns_clone=1" in done.stdout, done
    assert "No space left on device" in done.stdout or "not permitted" in done.stdout
