"""Piston as its documentation describes it, including full, unreachable and broken servers."""

import base64
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from r1exp.sandbox.base import Case, Checker, Limits, Submission, Unavailable
from r1exp.sandbox.piston import Piston
from r1exp.sandbox.verdicts import run

ADD = Submission("python", "print(sum(map(int, input().split())))")
MAIN = '#include <cstdio>\nint main() { int a, b; scanf("%d %d", &a, &b); printf("%d", add(a, b)); }'
QUICK: dict[str, Any] = {"retries": 2, "backoff_seconds": 0.01}


def stage(stdout: str = "", **other: Any) -> dict[str, Any]:
    return {"stdout": stdout, "stderr": "", "output": stdout, "code": 0, "signal": None} | other


@pytest.fixture
def piston(service: Any, tmp_path: Path) -> Any:
    """A server that runs programs as the packages `python` and `gcc` do."""

    def respond(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if (method, path) == ("GET", "/api/v2/runtimes"):
            runtimes = [{"language": "python", "version": "3.12.0", "aliases": ["py"]},
                        {"language": "c++", "version": "10.2.0", "aliases": ["cpp", "g++"], "runtime": "gcc"}]  # fmt: skip
            return 200, json.dumps(runtimes).encode()
        assert (method, path) == ("POST", "/api/v2/execute")
        return 200, json.dumps(_execute(json.loads(body), tmp_path / str(time.monotonic_ns()))).encode()

    service.respond = respond
    return service


def _execute(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    folder.mkdir()
    code = []
    for file in job["files"]:
        assert file["content"], "files[].content is required as a string"
        text = file["encoding"] == "utf8"
        content = file["content"].encode() if text else base64.b64decode(file["content"])
        (folder / file["name"]).write_bytes(content)
        code += [file["name"]] if text else []
    answer: dict[str, Any] = {"language": job["language"], "version": "1"}
    start = ["python3", code[0]]
    if job["language"] == "c++":
        renamed = [str((folder / name).rename(folder / f"{name}.cpp")) for name in code]
        built = subprocess.run(["g++", *renamed], cwd=folder, capture_output=True, text=True, check=False)
        answer["compile"] = stage(stderr=built.stderr, code=built.returncode)
        start = ["./a.out"]
    if answer.get("compile", {"code": 0})["code"] == 0:
        done = subprocess.run(
            [*start, *job["args"]],
            cwd=folder,
            input=job["stdin"],
            capture_output=True,
            text=True,
            check=False,
        )
        answer["run"] = stage(done.stdout, stderr=done.stderr, code=done.returncode)
    return answer


def settings(service: Any, **other: Any) -> Piston:
    return Piston(urls=(f"{service.url}/api/v2",), **(QUICK | other))


@pytest.mark.parametrize(
    "submission",
    [
        pytest.param(ADD, id="python"),
        pytest.param(Submission("cpp", MAIN.replace("add(a, b)", "a + b")), id="cpp"),
        pytest.param(Submission("cpp", '#include "add.h"\n' + MAIN,
                                {"add.h": "int add(int, int);", "add.cpp": "int add(int a, int b) { return a + b; }"}), id="cpp of several files"),
    ],
)  # fmt: skip
def test_cases_are_judged(piston: Any, submission: Submission) -> None:
    answer = run(settings(piston), submission, [Case("1 2", "3"), Case("1 2", "4")], Limits())
    assert isinstance(answer, list), answer
    assert [result.outcome for result in answer] == ["passed", "wrong"]


def test_the_files_of_a_cpp_checker_are_not_compiled(piston: Any) -> None:
    source = """
    #include <cstdio>
    int read(const char* name) { int value = 0; return fscanf(fopen(name, "r"), "%d", &value) == 1 ? value : -1; }
    int main(int, char** argv) { return read(argv[2]) != read(argv[3]); }
    """
    checker = Checker(Submission("cpp", source), protocol="testlib")
    answer = run(settings(piston), ADD, [Case("1 2", "+3", checker), Case("1 2", "4", checker)], Limits())
    assert isinstance(answer, list), answer
    assert [result.outcome for result in answer] == ["passed", "wrong"]


def test_a_program_that_does_not_compile_is_a_compile_error(piston: Any) -> None:
    answer = run(settings(piston), Submission("cpp", "int main() {"), [Case("", "")], Limits())
    assert isinstance(answer, list)
    assert answer[0].outcome == "compile_error"


def test_the_expected_output_is_not_sent_with_a_submission(service: Any) -> None:
    bodies: list[bytes] = []

    def respond(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        bodies.append(body)
        return 200, json.dumps({"run": stage("x")}).encode()

    service.respond = respond
    run(settings(service), ADD, [Case("1 2", "the expected")], Limits())
    assert len(bodies) == 1
    assert b"the expected" not in bodies[0]


def test_limits_are_sent_in_the_units_of_the_service(service: Any) -> None:
    sent: list[dict[str, Any]] = []

    def respond(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        sent.append(json.loads(body))
        return 200, json.dumps({"run": stage("3")}).encode()

    service.respond = respond
    run(
        settings(service),
        ADD,
        [Case("1 2", "3")],
        Limits(cpu_seconds=1.5, wall_seconds=3.0, memory_mib=256, compile_seconds=20.0),
    )
    wanted = {
        "run_cpu_time": 1500,
        "run_timeout": 3000,
        "run_memory_limit": 268435456,
        "compile_timeout": 20000,
        "language": "python",
        "version": "*",
        "stdin": "1 2",
    }
    assert {name: sent[0][name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("done", "outcome"),
    [
        pytest.param(stage(code=None, signal="SIGKILL", status="TO", message="Time limit exceeded"), "timeout", id="time"),
        pytest.param(stage(code=None, signal="SIGKILL", status="OL", message="stdout length exceeded"), "crash", id="output"),
        pytest.param(stage(code=None, signal="SIGSEGV", status="SG"), "crash", id="signal"),
        pytest.param(stage(code=None, signal="SIGKILL"), "timeout", id="killed by an older server"),
        pytest.param(stage("3", code=1, status="RE"), "crash", id="exit code"),
        pytest.param(stage(code=1, stderr="MemoryError"), "memory", id="memory error"),
        pytest.param(stage(code=None, signal="SIGKILL", memory=600 << 20), "memory", id="memory"),
        pytest.param(stage("3\n", status=None, message=None, memory=9 << 20, cpu_time=20, wall_time=30), "passed", id="fine"),
    ],
)  # fmt: skip
def test_each_way_to_end_has_its_outcome(service: Any, done: dict[str, Any], outcome: str) -> None:
    service.respond = lambda method, path, body: (200, json.dumps({"run": done}).encode())
    answer = run(settings(service), ADD, [Case("1 2", "3")], Limits())
    assert isinstance(answer, list)
    assert answer[0].outcome == outcome


FINE = json.dumps({"run": stage("3")}).encode()


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param((503, b""), id="overloaded"),
        pytest.param((429, b'{"message": "slow down"}'), id="too many requests"),
        pytest.param((500, b"oops"), id="internal error"),
        pytest.param((200, b"<html>"), id="no JSON"),
        pytest.param((0, b""), id="closes the connection"),
    ],
)
def test_a_request_to_a_busy_server_is_repeated_before_the_sandbox_is_unavailable(
    service: Any, trouble: tuple[int, bytes]
) -> None:
    replies = [trouble, trouble, (200, FINE), *[trouble] * 3]
    service.respond = lambda method, path, body: replies.pop(0)
    answer = run(settings(service), ADD, [Case("1 2", "3")], Limits())
    assert isinstance(answer, list), answer
    assert answer[0].outcome == "passed"
    answer = run(settings(service), ADD, [Case("1 2", "3")], Limits())
    assert isinstance(answer, Unavailable)
    assert "3 times" in answer.detail
    assert not replies


def test_a_server_that_cannot_be_reached_is_unavailable() -> None:
    answer = run(Piston(urls=("http://127.0.0.1:9/api/v2",), **QUICK), ADD, [Case("1 2", "3")], Limits())
    assert isinstance(answer, Unavailable)
    assert "refused" in answer.detail


def test_a_server_that_does_not_answer_in_time_is_unavailable(service: Any) -> None:

    def respond(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        time.sleep(0.6)
        return 200, FINE

    service.respond = respond
    limits = Limits(wall_seconds=0.1, compile_seconds=0.1)
    answer = run(settings(service, queue_seconds=0.1, retries=0), ADD, [Case("1 2", "3")], limits)
    assert isinstance(answer, Unavailable)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(
            (400, b'{"message": "run_timeout cannot exceed the configured limit of 3000"}'), id="refused"
        ),
        pytest.param((200, json.dumps({"message": "oops"}).encode()), id="no run"),
        pytest.param(
            (200, json.dumps({"run": stage(code=None, status="XX", message="box")}).encode()), id="internal"
        ),
    ],
)
def test_a_refused_request_is_not_repeated(service: Any, reply: tuple[int, bytes]) -> None:
    service.respond = lambda method, path, body: reply
    answer = run(settings(service), ADD, [Case("1 2", "3")], Limits())
    assert isinstance(answer, Unavailable)
    assert len(service.requests) == 1


def test_the_message_of_the_server_is_the_detail_of_a_refusal(service: Any) -> None:
    service.respond = lambda method, path, body: (400, b'{"message": "python-9 runtime is unknown"}')
    answer = run(settings(service), ADD, [Case("1 2", "3")], Limits())
    assert isinstance(answer, Unavailable)
    assert "python-9 runtime is unknown" in answer.detail


def test_concurrency_limits_the_requests_at_once(service: Any) -> None:

    def respond(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        time.sleep(0.05)
        return 200, FINE

    service.respond = respond
    answer = run(settings(service, concurrency=2), ADD, [Case("1 2", "3")] * 8, Limits(), batch=8)
    assert isinstance(answer, list)
    assert service.most_busy == 2


def test_a_server_that_is_down_is_skipped(service: Any) -> None:
    service.respond = lambda method, path, body: (200, FINE)
    two = Piston(urls=("http://127.0.0.1:9/api/v2", f"{service.url}/api/v2"), **QUICK)
    answer = run(two, ADD, [Case("1 2", "3")] * 4, Limits())
    assert isinstance(answer, list)
    assert {result.outcome for result in answer} == {"passed"}


def test_check_names_the_packages_that_the_server_lacks(piston: Any, service: Any) -> None:
    assert settings(piston).check() is None
    service.respond = lambda method, path, body: (200, b'[{"language": "bash", "aliases": ["sh"]}]')
    assert "['c++', 'python']" in (settings(service).check() or "")
    assert "start Piston" in (Piston(urls=("http://127.0.0.1:9",), **QUICK).check() or "")
