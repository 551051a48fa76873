"""E2B with its own client, against a server on loopback that implements its protocol (REST and Connect)."""

import base64
import json
import re
from typing import Any

import pytest

from r1exp.sandbox.base import Case, Limits, Submission, Unavailable
from r1exp.sandbox.e2b import E2b
from r1exp.sandbox.verdicts import run

pytest.importorskip("e2b", reason="pip install e2b")

ADD = Submission("python", "print(sum(map(int, input().split())))")
ADD_CPP = Submission(
    "cpp", "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }"
)
CASES = [Case("1 2", "3"), Case("1 2", "the expected")]


@pytest.fixture
def e2b(service: Any, machine: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    created = {
        "sandboxID": "s1",
        "templateID": "base",
        "clientID": "c",
        "envdVersion": "0.5.0",
        "envdAccessToken": "t",
    }

    def respond(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        service.content_type = "application/json"
        if method == "POST" and path.endswith("/sandboxes"):
            service.created = json.loads(body)
            return 201, json.dumps(created).encode()
        if method == "DELETE":
            return 204, b""
        if path.startswith("/files"):
            part = re.search(rb'filename="([^"]+)".*?\r\n\r\n(.*)\r\n--', body, re.DOTALL)
            assert part is not None
            name, content = part.groups()
            machine.write(name.decode(), content.decode())
            return 200, json.dumps([{"path": name.decode(), "name": "x", "type": "file"}]).encode()
        assert path == "/process.Process/Start", path
        service.content_type = "application/connect+json"
        process = json.loads(body[5:])["process"]
        done = machine.shell(process["args"][-1])
        return 200, _stream(
            {"start": {"pid": 1}},
            {"data": {"stdout": base64.b64encode(done.stdout.encode()).decode()}},
            {"data": {"stderr": base64.b64encode(done.stderr.encode()).decode()}},
            {
                "end": {
                    "exitCode": done.returncode,
                    "exited": True,
                    "status": f"exit status {done.returncode}",
                }
            },
        )

    service.respond = respond
    for name, value in {"E2B_API_KEY": "e2b_" + 40 * "0", "E2B_API_URL": service.url, "E2B_SANDBOX_URL": service.url,
                        "E2B_HTTP_VERSION": "1.1", "E2B_CONNECTION_RETRIES": "0"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return service


def _stream(*events: dict[str, Any]) -> bytes:
    """Return a stream of Connect messages: a byte of flags, four of length, JSON; the last one ends it."""
    messages = [(0, {"event": event}) for event in events] + [(2, {})]
    parts = [(flags, json.dumps(message).encode()) for flags, message in messages]
    return b"".join(bytes([flags]) + len(text).to_bytes(4, "big") + text for flags, text in parts)


def settings(**other: Any) -> E2b:
    return E2b(retries=1, backoff_seconds=0.01, **other)


@pytest.mark.parametrize("submission", [pytest.param(ADD, id="python"), pytest.param(ADD_CPP, id="cpp")])
def test_cases_are_judged_on_one_machine_that_is_stopped_afterwards(
    e2b: Any, machine: Any, submission: Submission
) -> None:
    answer = run(settings(), submission, CASES, Limits())
    assert isinstance(answer, list), answer
    assert [result.outcome for result in answer] == ["passed", "wrong"]
    assert [method for method, path in e2b.requests if "sandboxes" in path] == ["POST", "DELETE"]
    assert e2b.created["allow_internet_access"] is False
    assert not any("the expected" in text for text in machine.seen)


def test_each_kind_of_failure_has_its_outcome(e2b: Any) -> None:
    limits = Limits(cpu_seconds=1.0, wall_seconds=1.0, memory_mib=200, output_kib=10)
    programs = {
        "while True: pass": "timeout",
        "import time; time.sleep(9)": "timeout",
        "x = bytearray(1 << 30)": "memory",
        "exit(3)": "crash",
        "print('x' * 20000)": "crash",
    }
    for source, outcome in programs.items():
        answer = run(settings(), Submission("python", source), [Case("", "")], limits)
        assert isinstance(answer, list), answer
        assert answer[0].outcome == outcome, source
    answer = run(settings(), Submission("cpp", "int main() {"), [Case("", "")], limits)
    assert isinstance(answer, list)
    assert answer[0].outcome == "compile_error"


@pytest.mark.parametrize(
    ("status", "num_requests"),
    [
        pytest.param(429, 2, id="too many requests"),
        pytest.param(503, 2, id="busy"),
        pytest.param(401, 1, id="bad key"),
        pytest.param(404, 1, id="no such template"),
    ],
)
def test_a_service_that_starts_no_machine_is_unavailable(e2b: Any, status: int, num_requests: int) -> None:
    e2b.respond = lambda method, path, body: (status, json.dumps({"code": status, "message": "no"}).encode())
    answer = run(settings(), ADD, CASES, Limits())
    assert isinstance(answer, Unavailable)
    assert len(e2b.requests) == num_requests


@pytest.mark.parametrize("broken", ["/files", "/process"])
def test_a_machine_that_is_lost_is_unavailable(e2b: Any, broken: str) -> None:
    fine = e2b.respond
    e2b.respond = lambda method, path, body: (
        (502, b"{}") if path.startswith(broken) else fine(method, path, body)
    )
    answer = run(settings(), ADD, CASES, Limits())
    assert isinstance(answer, Unavailable)
    assert "E2B could not" in answer.detail


def test_without_the_service_or_the_key_the_sandbox_is_unavailable(
    e2b: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E2B_API_URL", "http://127.0.0.1:9")
    assert isinstance(run(settings(), ADD, CASES, Limits()), Unavailable)
    monkeypatch.delenv("E2B_API_KEY")
    answer = run(settings(), ADD, CASES, Limits())
    assert isinstance(answer, Unavailable)
    assert "API key" in answer.detail
