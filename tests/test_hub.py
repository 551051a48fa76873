"""Which commit a revision on the hub is."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from r1exp.config.experiment import Experiment
from r1exp.hub import commit_of
from r1exp.plan.steps import planned_steps

FIRST, SECOND = "a" * 40, "b" * 40


class Hub(BaseHTTPRequestHandler):
    """Answers every question about a repository with one commit, as the real hub does."""

    commit = FIRST

    def do_GET(self) -> None:
        body = json.dumps({"id": "owner/name", "sha": Hub.commit, "siblings": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    Hub.commit = FIRST
    commit_of.cache_clear()
    yield server
    commit_of.cache_clear()
    server.shutdown()
    server.server_close()


def cached(folder: Path, commit: str) -> None:
    reference = folder / "models--owner--name" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    reference.write_text(commit)


def test_the_hub_is_asked_before_the_cache(hub: HTTPServer, tmp_path: Path) -> None:
    cached(tmp_path, SECOND)
    assert commit_of("owner/name", None, "model") == FIRST


@pytest.mark.parametrize("is_offline", [True, False], ids=["HF_HUB_OFFLINE", "no network"])
def test_without_the_hub_the_cache_knows_the_commit(
    is_offline: bool, hub: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", is_offline)
    hub.shutdown()
    hub.server_close()
    assert commit_of("owner/other", None, "model") is None
    cached(tmp_path, SECOND)
    assert commit_of("owner/name", None, "model") == SECOND


def test_a_commit_is_its_own(hub: HTTPServer) -> None:
    assert commit_of("owner/name", SECOND, "dataset") == SECOND


def test_a_step_is_another_one_when_the_branch_has_moved(
    hub: HTTPServer, compose_line: Callable[..., Experiment]
) -> None:
    def planned() -> tuple[str, str | None, str | None]:
        commit_of.cache_clear()
        line = ("stage=rl", "model=hf", "model.path=owner/name", "dataset=gsm8k", "dataset.path=owner/name")
        step = planned_steps(compose_line(*line, "evaluation.before=false", "evaluation.after=false"))[0]
        return step.key, step.config.model.revision, getattr(step.config.dataset, "revision", None)

    first = planned()
    assert first[1:] == (FIRST, FIRST)
    Hub.commit = SECOND
    second = planned()
    assert second[1:] == (SECOND, SECOND)
    assert second[0] != first[0]
