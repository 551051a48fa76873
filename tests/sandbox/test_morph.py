"""Morph with its own client, against a server on loopback that implements its protocol."""

import json
from typing import Any

import pytest

from r1exp.sandbox import morph as morph_module
from r1exp.sandbox.base import Case, Limits, Submission, Unavailable
from r1exp.sandbox.morph import Morph
from r1exp.sandbox.verdicts import run

pytest.importorskip("morphcloud", reason="pip install morphcloud")

ADD = Submission("python", "print(sum(map(int, input().split())))")
ADD_CPP = Submission(
    "cpp", "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }"
)
CASES = [Case("1 2", "3"), Case("1 2", "the expected")]
INSTANCE = {
    "id": "i1", "created": 1, "status": "ready", "spec": {"vcpus": 1, "memory": 1024, "disk_size": 8192},
    "refs": {"snapshot_id": "snap", "image_id": "im"}, "networking": {},
}  # fmt: skip


@pytest.fixture
def morph(service: Any, machine: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    morph_module._service.cache_clear()

    def respond(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if (method, path) == ("POST", "/instance?snapshot_id=snap"):
            assert json.loads(body)["ttl_seconds"] > 0
            return 200, json.dumps(INSTANCE).encode()
        if (method, path) == ("DELETE", "/instance/i1"):
            return 204, b""
        assert (method, path) == ("POST", "/instance/i1/exec"), path
        done = machine.shell(" ".join(json.loads(body)["command"]))
        return 200, json.dumps(
            {"exit_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
        ).encode()

    service.respond = respond
    monkeypatch.setenv("MORPH_API_KEY", "key")
    monkeypatch.setenv("MORPH_BASE_URL", service.url)
    monkeypatch.setenv("MORPH_HTTP_TRANSPORT_SHARDS", "1")  # the client's default of 32 takes a second
    return service


def settings(**other: Any) -> Morph:
    return Morph(snapshot="snap", retries=1, backoff_seconds=0.01, **other)


@pytest.mark.parametrize("submission", [pytest.param(ADD, id="python"), pytest.param(ADD_CPP, id="cpp")])
def test_cases_are_judged_on_one_machine_that_is_stopped_afterwards(
    morph: Any, machine: Any, submission: Submission
) -> None:
    answer = run(settings(), submission, CASES, Limits())
    assert isinstance(answer, list), answer
    assert [result.outcome for result in answer] == ["passed", "wrong"]
    assert [path for _, path in morph.requests if "exec" not in path] == [
        "/instance?snapshot_id=snap",
        "/instance/i1",
    ]
    assert not any("the expected" in text for text in machine.seen)


def test_a_long_input_is_sent_completely(morph: Any) -> None:
    numbers = " ".join(str(number) for number in range(60_000))  # about 340 kB
    source = Submission("python", "numbers = input().split(); print(len(numbers), numbers[-1], 'ü')")
    answer = run(settings(), source, [Case(numbers, "60000 59999 ü")], Limits())
    assert isinstance(answer, list), answer
    assert answer[0].outcome == "passed"


@pytest.mark.parametrize(
    ("status", "num_requests"),
    [
        pytest.param(429, 2, id="too many requests"),
        pytest.param(503, 2, id="busy"),
        pytest.param(401, 1, id="bad key"),
    ],
)
def test_a_service_that_starts_no_machine_is_unavailable(morph: Any, status: int, num_requests: int) -> None:
    morph.respond = lambda method, path, body: (status, b'{"detail": "no"}')
    answer = run(settings(), ADD, CASES, Limits())
    assert isinstance(answer, Unavailable)
    assert len(morph.requests) == num_requests


def test_a_machine_that_is_lost_is_unavailable(morph: Any) -> None:
    fine = morph.respond
    morph.respond = lambda method, path, body: (502, b"{}") if "exec" in path else fine(method, path, body)
    answer = run(settings(), ADD, CASES, Limits())
    assert isinstance(answer, Unavailable)
    assert morph.requests[-1] == ("DELETE", "/instance/i1")


def test_without_the_service_or_the_key_the_sandbox_is_unavailable(
    morph: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("MORPH_BASE_URL", "http://127.0.0.1:9")
    morph_module._service.cache_clear()
    assert isinstance(run(settings(), ADD, CASES, Limits()), Unavailable)
    monkeypatch.delenv("MORPH_API_KEY")
    morph_module._service.cache_clear()
    monkeypatch.setenv("MORPH_CONFIG_PATH", str(tmp_path_factory.mktemp("no") / "profile"))
    answer = run(settings(), ADD, CASES, Limits())
    assert isinstance(answer, Unavailable)
    assert "MORPH_API_KEY" in answer.detail
