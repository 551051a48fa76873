"""Which hosts are reached without a proxy, with a proxy that is dead and one that works."""

import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import requests

from r1exp.addresses import is_direct, reach_private_directly
from r1exp.errors import StepFailed
from r1exp.http_client import HttpClient

DEAD = "http://127.0.0.1:9"  # nothing listens there
PROXIES = (
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


class Server:
    """Answers every request with the address that was asked for; a proxy is asked for a whole URL."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.paths.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"path": self.path}).encode())

            def log_message(self, *args: object) -> None:
                """Log nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def get(url: str) -> object:
    return HttpClient(url, timeout=5.0, concurrency=1, pauses=lambda: ()).get("/x")


@pytest.mark.parametrize(
    ("host", "direct"),
    [
        ("localhost", True), ("LOCALHOST.", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.1.2.3", True),
        ("172.16.0.1", True), ("192.168.1.1", True), ("169.254.1.1", True), ("fd00::7", True), ("8.8.8.8", False),
        ("2606:4700::1", False), ("0.0.0.0", False), ("224.0.0.1", False),
    ],
)  # fmt: skip
def test_loopback_and_private_addresses_are_direct(host: str, direct: bool) -> None:
    assert is_direct(host) is direct


@pytest.mark.parametrize(
    ("addresses", "direct"), [(["10.0.0.7"], True), (["10.0.0.7", "8.8.8.8"], False), ([], False)]
)
def test_a_name_is_direct_if_all_of_its_addresses_are_private(
    addresses: list[str], direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(name: str, *args: object, **kwargs: object) -> list[tuple]:
        if not addresses:
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert is_direct("node7.cluster") is direct


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_dead_proxy_does_not_keep_the_client_from_loopback(
    variable: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, DEAD)
    assert get(server.url) == {"path": "/x"}
    assert get(f"http://localhost:{server.port}") == {"path": "/x"}


def test_other_hosts_go_through_the_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    assert get("http://judge.invalid:8000/v1") == {"path": "http://judge.invalid:8000/v1/x"}
    assert get("http://8.8.8.8") == {"path": "http://8.8.8.8/x"}


def test_of_two_hosts_each_is_reached_its_own_way(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    http = HttpClient(
        [f"{server.url}/own", "http://8.8.8.8/other"], timeout=5.0, concurrency=1, pauses=lambda: ()
    )
    assert [http.get("/x") for _ in range(2)] == [{"path": "/own/x"}, {"path": "http://8.8.8.8/other/x"}]


def test_a_proxy_that_cannot_be_used_is_said_where_it_is_needed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:9")
    assert get(server.url) == {"path": "/x"}
    with pytest.raises(StepFailed, match="correct HTTP_PROXY"):
        get("http://8.8.8.8")


def test_the_environment_tells_other_clients_which_hosts_are_direct(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", DEAD)
    monkeypatch.setenv("http_proxy", DEAD)
    monkeypatch.setenv("NO_PROXY", "example.com")
    environment = {"HTTP_PROXY": DEAD, "NO_PROXY": "example.com"}
    reach_private_directly(environment, ["http://[fd00::7]:8000"])
    assert environment["NO_PROXY"] == environment["no_proxy"]
    assert environment["NO_PROXY"].startswith("example.com,localhost,")
    assert environment["NO_PROXY"].endswith(",fd00::7")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, environment[name])
    assert requests.get(f"{server.url}/r", timeout=5.0).json() == {"path": "/r"}  # TRL's client of vLLM
    assert httpx.get(f"{server.url}/h", timeout=5.0).json() == {"path": "/h"}
    assert json.load(urllib.request.urlopen(f"{server.url}/u", timeout=5.0)) == {"path": "/u"}
    assert requests.utils.should_bypass_proxies("http://10.20.30.40:8000", None)
    assert not requests.utils.should_bypass_proxies("http://8.8.8.8", None)


@pytest.mark.parametrize(
    "environment", [{}, {"NO_PROXY": "example.com"}, {"HTTP_PROXY": DEAD, "no_proxy": "*"}]
)
def test_the_environment_stays_as_it_is_where_nothing_needs_to_change(environment: dict[str, str]) -> None:
    before = dict(environment)
    reach_private_directly(environment)
    assert environment == before
