"""The HTTP client against a server on loopback: retries, pauses, and the messages of failures."""

import json
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from r1exp import http_client
from r1exp.http_client import (
    HttpClient,
    OpenAiClient,
    RequestFailed,
    TryAgain,
    growing_pauses,
    pauses_within,
    with_retries,
)

CLOSED = "http://127.0.0.1:9"  # a port on which no server listens
FINE = (200, '{"choices": [1]}')
EXPLAIN = {"key": "change the key", "missing": "change the name", "slow": "wait longer", "down": "start it"}


@dataclass
class Service:
    """A server that answers with `replies`, then with FINE, and records the requests."""

    url: str = ""
    replies: list[tuple[int, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)  # of every answer
    seconds: float = 0.0  # before every answer
    requests: list[tuple[str, str, Any, str | None]] = field(default_factory=list)  # method, path, body, key
    num_active: int = 0  # requests at this moment
    most_active: int = 0  # largest number of requests at once


@pytest.fixture
def service() -> Iterator[Service]:
    state, lock = Service(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                parsed = json.loads(body) if body else None
                state.requests.append((self.command, self.path, parsed, self.headers.get("Authorization")))
                status, text = state.replies.pop(0) if state.replies else FINE
                state.num_active += 1
                state.most_active = max(state.most_active, state.num_active)
            time.sleep(state.seconds)
            with lock:
                state.num_active -= 1
            if status == 0:  # the connection is closed without an answer
                return
            self.send_response(status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST  # noqa: N815 - a name of http.server

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


def client(
    url: str | list[str],
    slept: list[float] | None = None,
    retries: int = 2,
    kind: type[HttpClient] = HttpClient,
    **more: Any,
) -> HttpClient:
    settings: dict[str, Any] = {"timeout": 5.0, "concurrency": 4, "explain": EXPLAIN, **more}
    pauses = [] if slept is None else slept
    return kind(url, pauses=lambda: growing_pauses(retries), sleep=pauses.append, **settings)


def failure(client: HttpClient, path: str = "/x") -> RequestFailed:
    with pytest.raises(RequestFailed) as raised:
        client.post(path, {})
    return raised.value


def test_a_request_carries_method_path_body_and_key(service: Service) -> None:
    sender = client(f"{service.url}/v1/", key="secret")
    assert sender.post("/x", {"a": 1}) == {"choices": [1]}
    assert sender.get("/y") == {"choices": [1]}
    assert service.requests == [
        ("POST", "/v1/x", {"a": 1}, "Bearer secret"),
        ("GET", "/v1/y", None, "Bearer secret"),
    ]


def test_an_unpaired_surrogate_can_be_sent(service: Service) -> None:
    client(service.url).post("/x", {"text": "\ud800"})
    assert service.requests[0][2] == {"text": "\ud800"}


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503, 0])
def test_a_transient_failure_is_retried_after_growing_pauses(service: Service, status: int) -> None:
    service.replies = [(status, ""), (status, "")]
    slept: list[float] = []
    assert client(service.url, slept).post("/x", {}) == {"choices": [1]}
    assert slept == [0.5, 1.0]


def test_after_the_last_pause_the_last_failure_is_raised(service: Service) -> None:
    service.replies = [(500, ""), (500, ""), (503, '{"error": {"message": "full"}}')]
    failed = failure(client(service.url))
    assert len(service.requests) == 3
    assert str(failed) == f"{service.url}/x: HTTP 503 full; start it"
    assert (failed.cause, failed.status, failed.found) == ("down", 503, "HTTP 503 full")


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "; change the key"), (403, "; change the key"), (404, "; change the name"), (400, ""), (302, "")],
)
def test_a_permanent_failure_is_not_retried_and_states_what_to_change(
    service: Service, status: int, advice: str
) -> None:
    service.replies = [(status, '{"message": "no"}')]
    failed = failure(client(service.url))
    assert str(failed) == f"{service.url}/x: HTTP {status} no{advice}"
    assert (failed.cause, failed.status, len(service.requests)) == ("refused", status, 1)


def test_the_retried_statuses_can_be_set(service: Service) -> None:
    service.replies = [(503, ""), (501, "")]
    failed = failure(client(service.url, retried_statuses={503}))
    assert (failed.status, len(service.requests)) == (501, 2)


def test_an_unreachable_service_is_retried() -> None:
    slept: list[float] = []
    failed = failure(client(CLOSED, slept))
    assert "it cannot be reached" in str(failed)
    assert str(failed).endswith("; start it")
    assert (failed.cause, failed.status, slept) == ("down", None, [0.5, 1.0])


@pytest.mark.parametrize(("retried", "num_requests"), [(False, 1), (True, 3)])
def test_a_timeout_is_retried_only_if_that_is_set(service: Service, retried: bool, num_requests: int) -> None:
    service.seconds = 0.3
    failed = failure(client(service.url, timeout=0.1, retry_timeouts=retried))
    assert str(failed) == f"{service.url}/x: no answer within 0.1 s; wait longer"
    assert (failed.cause, len(service.requests)) == ("slow", num_requests)


def test_a_request_can_have_its_own_timeout(service: Service) -> None:
    service.seconds = 0.2
    sender = client(service.url, timeout=0.05)
    assert sender.post("/x", {}, timeout=5.0) == {"choices": [1]}


@pytest.mark.parametrize(("retried", "num_requests"), [(False, 1), (True, 3)])
def test_an_answer_that_is_not_json_is_retried_only_if_that_is_set(
    service: Service, retried: bool, num_requests: int
) -> None:
    service.replies = [(200, "<html>")] * 3
    failed = failure(client(service.url, retry_unreadable=retried))
    assert str(failed) == f"{service.url}/x: the answer is not JSON: '<html>'; change the name"
    assert (failed.cause, len(service.requests)) == ("unreadable", num_requests)


@pytest.mark.parametrize("text", ["{}", '{"choices": []}', "[]"])
def test_an_openai_answer_without_choices_is_refused(service: Service, text: str) -> None:
    service.replies = [(200, text)]
    assert "the answer is not of OpenAI's form" in str(failure(client(service.url, kind=OpenAiClient)))


@pytest.mark.parametrize(
    ("header", "longest", "pause"),
    [
        pytest.param("7", 30.0, 7.0, id="seconds"),
        pytest.param("0.1", 30.0, 0.5, id="less than the pause"),
        pytest.param("3600", 30.0, 30.0, id="more than the longest"),
        pytest.param("7", 0.0, 0.5, id="ignored"),
        pytest.param("Wed, 21 Oct 2026 07:28:00 GMT", 30.0, 0.5, id="a date"),
        pytest.param("nan", 30.0, 0.5, id="not a number"),
    ],
)
def test_a_retry_after_header_lengthens_the_pause(
    service: Service, header: str, longest: float, pause: float
) -> None:
    service.replies, service.headers = [(429, "")], {"Retry-After": header}
    slept: list[float] = []
    client(service.url, slept, longest_retry_after=longest).post("/x", {})
    assert slept == [pause]


def test_attempts_use_the_urls_in_turn(service: Service) -> None:
    sender = client([CLOSED, service.url], retries=1)
    assert [sender.post("/x", {}) for _ in range(3)] == [{"choices": [1]}] * 3


def test_a_service_that_has_ended_stops_the_attempts_with_its_reason() -> None:
    slept: list[float] = []
    failed = failure(client(CLOSED, slept, why_lost=lambda: "the server exited with code 1"))
    assert str(failed) == f"{CLOSED}/x: the server exited with code 1"
    assert slept == []


def test_the_number_of_concurrent_requests_is_limited(service: Service) -> None:
    service.seconds = 0.05
    sender = client(service.url, concurrency=2)
    threads = [threading.Thread(target=sender.post, args=("/x", {})) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(service.requests), service.most_active) == (6, 2)


def test_map_keeps_the_order_and_its_first_exception_cancels_the_rest(service: Service) -> None:
    sender = client(service.url, concurrency=1)
    assert sender.map(lambda item: -item, [1, 2, 3]) == [-1, -2, -3]
    started: list[int] = []

    def fail(item: int) -> None:
        started.append(item)
        time.sleep(0.2)
        raise KeyError(item)

    with pytest.raises(KeyError):
        sender.map(fail, list(range(9)))
    assert len(started) < 9


def test_pauses_double_up_to_the_longest() -> None:
    assert growing_pauses(4) == [0.5, 1.0, 2.0, 4.0]
    assert growing_pauses(4, first=1.0, longest=3.0) == [1.0, 2.0, 3.0, 3.0]
    assert growing_pauses(0) == []


def test_pauses_within_a_time_limit_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.0, 1.0, 2.0, 3.0])
    monkeypatch.setattr(http_client.time, "monotonic", lambda: next(now))
    assert list(pauses_within(2.5)) == [0.5, 1.0, 1.0]


def test_any_attempt_can_be_retried() -> None:
    outcomes: list[Exception | str] = [TryAgain(KeyError("a")), TryAgain(KeyError("b"), pause=3.0), "done"]

    def attempt() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    slept: list[float] = []
    assert with_retries(attempt, [1.0, 2.0], slept.append) == "done"
    assert slept == [1.0, 3.0]
    outcomes[:] = [TryAgain(KeyError("a"))]
    with pytest.raises(KeyError, match="a"):
        with_retries(attempt, [], slept.append)


def test_a_failure_can_be_pickled() -> None:
    failed = pickle.loads(pickle.dumps(RequestFailed("url: busy", "down", "url", "busy", 503)))
    assert isinstance(failed, RequestFailed)
    assert (str(failed), failed.cause, failed.status) == ("url: busy", "down", 503)


def test_importing_the_client_imports_neither_httpx_nor_torch() -> None:
    code = (
        "import sys, r1exp.http_client; print([name for name in ('httpx', 'torch') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
