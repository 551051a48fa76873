"""The HTTP client against a server on loopback: which requests are repeated, when, and what errors say."""

import json
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from r1exp import http_client
from r1exp.circuit_breaker import CircuitBreaker
from r1exp.errors import StepFailed
from r1exp.http_client import (
    HttpClient,
    OpenAiClient,
    RequestFailed,
    TryAgain,
    growing_pauses,
    pauses_within,
    with_retries,
)

UNREACHABLE = "http://127.0.0.1:9"  # no server uses this port
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
    num_busy: int = 0
    most_busy: int = 0  # requests at once


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
                state.num_busy += 1
                state.most_busy = max(state.most_busy, state.num_busy)
            time.sleep(state.seconds)
            with lock:
                state.num_busy -= 1
            if status == 0:  # the connection is closed without an answer
                return
            self.send_response(status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST  # noqa: N815 a name of http.server

        def log_message(self, *args: object) -> None:
            """Keep the test's output quiet."""

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
) -> Any:
    settings = {"timeout": 5.0, "concurrency": 4, "explain": EXPLAIN, **more}
    sleep = (lambda seconds: None) if slept is None else slept.append
    return kind(url, pauses=lambda: growing_pauses(retries), sleep=sleep, **settings)


def failure(client: HttpClient, path: str = "/x") -> RequestFailed:
    with pytest.raises(RequestFailed) as raised:
        client.post(path, {})
    return raised.value


def test_a_request_has_method_path_body_and_key(service: Service) -> None:
    http = client(f"{service.url}/v1/", key="secret")
    assert http.post("/x", {"a": 1}) == {"choices": [1]}
    assert http.get("/y") == {"choices": [1]}
    assert service.requests == [
        ("POST", "/v1/x", {"a": 1}, "Bearer secret"),
        ("GET", "/v1/y", None, "Bearer secret"),
    ]


def test_half_a_surrogate_pair_can_be_sent(service: Service) -> None:
    client(service.url).post("/x", {"text": "\ud800"})
    assert service.requests[0][2] == {"text": "\ud800"}


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503, 0])
def test_a_failure_that_may_pass_is_tried_again_after_growing_pauses(service: Service, status: int) -> None:
    service.replies = [(status, ""), (status, "")]
    slept: list[float] = []
    assert client(service.url, slept).post("/x", {}) == {"choices": [1]}
    assert slept == [0.5, 1.0]


def test_attempts_end_with_the_pauses_and_the_last_failure_is_raised(service: Service) -> None:
    service.replies = [(500, ""), (500, ""), (503, '{"error": {"message": "full"}}')]
    failed = failure(client(service.url))
    assert len(service.requests) == 3
    assert str(failed) == f"{service.url}/x: HTTP 503 full; start it"
    assert (failed.cause, failed.status, failed.found) == ("down", 503, "HTTP 503 full")


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "; change the key"), (403, "; change the key"), (404, "; change the name"), (400, ""), (302, "")],
)
def test_a_refusal_is_not_tried_again_and_says_what_to_change(
    service: Service, status: int, advice: str
) -> None:
    service.replies = [(status, '{"message": "no"}')]
    failed = failure(client(service.url))
    assert str(failed) == f"{service.url}/x: HTTP {status} no{advice}"
    assert (failed.cause, failed.status, len(service.requests)) == ("refused", status, 1)


def test_which_statuses_are_tried_again_is_a_setting(service: Service) -> None:
    service.replies = [(503, ""), (501, "")]
    failed = failure(client(service.url, retried_statuses={503}))
    assert (failed.status, len(service.requests)) == (501, 2)


def test_a_service_that_cannot_be_reached_is_tried_again() -> None:
    slept: list[float] = []
    failed = failure(client(UNREACHABLE, slept))
    assert "it cannot be reached" in str(failed)
    assert str(failed).endswith("; start it")
    assert (failed.cause, failed.status, slept) == ("down", None, [0.5, 1.0])


@pytest.mark.parametrize(("retried", "num_requests"), [(False, 1), (True, 3)])
def test_retry_timeouts_decides_whether_a_timeout_is_tried_again(
    service: Service, retried: bool, num_requests: int
) -> None:
    service.seconds = 0.3
    failed = failure(client(service.url, timeout=0.1, retry_timeouts=retried))
    assert str(failed) == f"{service.url}/x: no answer within 0.1 s; wait longer"
    assert (failed.cause, len(service.requests)) == ("slow", num_requests)


def test_one_request_can_have_a_timeout_of_its_own(service: Service) -> None:
    service.seconds = 0.2
    http = client(service.url, timeout=0.05)
    assert http.post("/x", {}, timeout=5.0) == {"choices": [1]}


@pytest.mark.parametrize(("retried", "num_requests"), [(False, 1), (True, 3)])
def test_retry_unreadable_decides_whether_an_unreadable_answer_is_tried_again(
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


def test_attempts_take_the_urls_in_turn(service: Service) -> None:
    http = client([UNREACHABLE, service.url], retries=1)
    assert [http.post("/x", {}) for _ in range(3)] == [{"choices": [1]}] * 3


def test_a_lost_service_ends_the_attempts_with_its_reason() -> None:
    slept: list[float] = []
    failed = failure(client(UNREACHABLE, slept, why_lost=lambda: "the server exited with code 1"))
    assert str(failed) == f"{UNREACHABLE}/x: the server exited with code 1"
    assert slept == []


def test_concurrency_limits_the_requests_at_once_and_waiting_takes_none_of_their_timeout(
    service: Service,
) -> None:
    service.seconds = 0.5
    http = client(service.url, concurrency=1, retries=0, timeout=1.0)
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(http.post("/x", {}))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [{"choices": [1]}] * 4  # the last one waited 1.5 s
    assert service.most_busy == 1


def test_nothing_begins_after_a_failure_although_an_earlier_call_still_runs(service: Service) -> None:
    http = client(service.url, concurrency=2)
    begun: list[int] = []

    def call(item: int) -> None:
        begun.append(item)
        if item == 0:
            time.sleep(0.5)
        elif item == 3:
            raise RuntimeError("item 3")

    with pytest.raises(RuntimeError, match="item 3"):
        http.map(call, list(range(99)))
    assert len(begun) < 99


def test_map_keeps_the_order_and_its_first_exception_cancels_the_rest(service: Service) -> None:
    http = client(service.url, concurrency=1)
    assert http.map(lambda item: -item, [1, 2, 3]) == [-1, -2, -3]
    begun: list[int] = []

    def fail(item: int) -> None:
        begun.append(item)
        time.sleep(0.2)
        raise KeyError(item)

    with pytest.raises(KeyError):
        http.map(fail, list(range(9)))
    assert len(begun) < 9


def test_pauses_double_up_to_the_longest() -> None:
    assert growing_pauses(4) == [0.5, 1.0, 2.0, 4.0]
    assert growing_pauses(4, first=1.0, longest=3.0) == [1.0, 2.0, 3.0, 3.0]
    assert growing_pauses(0) == []


def test_pauses_within_a_time_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("headers", [{"Retry-After": "0.2"}, {}], ids=["Retry-After", "no Retry-After"])
def test_a_busy_service_is_asked_until_the_deadline_whatever_the_retries(
    service: Service, headers: dict[str, str]
) -> None:
    service.replies, service.headers = [(429, "")] * 5, headers
    http = HttpClient(service.url, timeout=5.0, concurrency=1, pauses=list)
    if headers:
        service.replies = service.replies[:1]
        assert http.post("/x", {}, until=time.monotonic() + 5.0) == {"choices": [1]}
        return
    with pytest.raises(RequestFailed, match="HTTP 429") as raised:
        http.post("/x", {}, until=time.monotonic() + 1.0)
    assert (raised.value.cause, len(service.requests)) == ("busy", 2)


def test_a_retry_after_beyond_the_deadline_ends_the_request_at_once(service: Service) -> None:
    service.replies, service.headers = [(503, "")], {"Retry-After": "3600"}
    begun = time.monotonic()
    with pytest.raises(RequestFailed) as raised:
        HttpClient(service.url, timeout=5.0, concurrency=1, pauses=lambda: [1.0]).post(
            "/x", {}, until=begun + 60.0
        )
    assert (raised.value.cause, time.monotonic() - begun < 1.0) == ("busy", True)


def test_a_date_in_a_retry_after_header_is_understood() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert http_client._seconds(later) == pytest.approx(100.0, abs=2.0)


def test_other_requests_wait_for_the_time_that_a_busy_service_gave(service: Service) -> None:
    service.replies, service.headers = [(429, "")], {"Retry-After": "100"}
    slept: list[float] = []
    http = client(service.url, slept)
    with pytest.raises(RequestFailed):
        http.post("/x", {}, until=time.monotonic() + 50.0)
    assert http.post("/x", {}, until=time.monotonic() + 500.0) == {"choices": [1]}
    assert slept == [pytest.approx(100.0, abs=1.0)]


def test_nothing_takes_longer_than_the_deadline(service: Service) -> None:
    service.seconds = 0.3
    begun = time.monotonic()
    http = client(service.url, concurrency=1, retry_timeouts=True, timeout=60.0)
    causes = http.map(lambda number: failure_until(http, begun + 0.5), range(8))
    assert time.monotonic() - begun < 1.0
    assert causes == [None, "slow", *["late"] * 6]


def failure_until(http: HttpClient, until: float) -> str | None:
    try:
        http.post("/x", {}, until=until)
    except RequestFailed as failed:
        return failed.cause
    return None


def test_an_answer_in_many_small_parts_does_not_exceed_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def trickle() -> None:
            connection, _ = listening.accept()
            connection.recv(1 << 16)
            with suppress(OSError), connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                for _ in range(100):  # some services send blank lines while a request waits
                    connection.sendall(b"\n")
                    time.sleep(0.05)

        threading.Thread(target=trickle, daemon=True).start()
        begun = time.monotonic()
        failed = failure(client(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=0.3))
    assert (failed.cause, time.monotonic() - begun < 1.0) == ("slow", True)


def test_an_open_breaker_ends_requests_at_once_and_lets_a_probe_through(service: Service) -> None:
    breaker = CircuitBreaker(failures=1, seconds=0.0)
    http = client(service.url, breaker=breaker)
    service.replies = [(500, "")]
    assert "not asked, because it is down (HTTP 500; 1 attempts in 0 s failed)" in str(failure(http))
    assert len(service.requests) == 1
    assert http.post("/x", {}, is_probe=True) == {"choices": [1]}
    assert http.post("/x", {}) == {"choices": [1]}


@pytest.mark.parametrize("status", [400, 401, 429])
def test_a_service_that_refuses_or_is_busy_is_not_down(service: Service, status: int) -> None:
    breaker = CircuitBreaker(failures=1, seconds=0.0)
    service.replies = [(status, "")] * 3
    failure(client(service.url, breaker=breaker))
    assert not breaker.is_open


def test_a_failure_can_be_pickled() -> None:
    failed = pickle.loads(pickle.dumps(RequestFailed("url: busy", "down", "url", "busy", 503)))
    assert isinstance(failed, RequestFailed) and isinstance(failed, StepFailed)
    assert (str(failed), failed.cause, failed.status) == ("url: busy", "down", 503)


def test_importing_the_client_imports_neither_httpx_nor_torch() -> None:
    code = (
        "import sys, r1exp.http_client; print([name for name in ('httpx', 'torch') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
