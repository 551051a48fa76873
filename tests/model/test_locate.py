"""Tests of finding a model by its path, and of the messages if there is none."""

import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from r1exp.errors import Refused
from r1exp.files import write_json, write_text
from r1exp.model.locate import check_hub, locate
from r1exp.model.settings import ModelSettings

ReadModel = Callable[..., ModelSettings]


def make_step(run: Path, name: str, *, state: str, kind: str | None = "model") -> Path:
    folder = run / "steps" / name
    artifact = None if kind is None else {"kind": kind, "hash": "0" * 16}
    write_json(folder / "status.json", {"state": state, "artifact": artifact})
    write_json(folder / "step.json", {})
    write_json(folder / "artifact" / "config.json", {})
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run whose last finished model is that of its third step."""
    write_json(tmp_path / "manifest.json", {})
    make_step(tmp_path, "01-evaluate", state="done", kind="scores")
    make_step(tmp_path, "02-sft", state="done")
    make_step(tmp_path, "03-rl", state="done")
    make_step(tmp_path, "04-evaluate", state="done", kind="scores")
    make_step(tmp_path, "05-rl", state="failed", kind=None)
    return tmp_path


def test_a_model_that_will_be_built_has_no_location(read_model: ReadModel) -> None:
    assert locate(read_model("tiny")) is None


def test_a_model_that_cannot_be_built_is_refused_before_anything_runs(read_model: ReadModel) -> None:
    shape = read_model("tiny").shape
    assert shape is not None
    with pytest.raises(Refused, match="vocab_size=300"):
        locate(read_model("tiny", shape={**shape.model_dump(), "vocab_size": 300}))


def test_a_hub_id_is_returned_unchanged(read_model: ReadModel) -> None:
    assert locate(read_model("qwen2.5-0.5b", revision="main")) == "Qwen/Qwen2.5-0.5B-Instruct"


def test_a_folder_with_a_config_is_a_model(read_model: ReadModel, tiny_folder: Path) -> None:
    assert locate(read_model("hf", path=str(tiny_folder))) == tiny_folder


def test_the_path_of_a_run_gives_its_last_finished_model(read_model: ReadModel, run: Path) -> None:
    assert locate(read_model("hf", path=str(run))) == run / "steps" / "03-rl" / "artifact"


def test_the_path_of_a_step_gives_its_model(read_model: ReadModel, run: Path) -> None:
    step = run / "steps" / "02-sft"
    assert locate(read_model("hf", path=str(step))) == step / "artifact"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param(["notes.txt"], "neither a model", id="some other folder"),
        pytest.param(["adapter_config.json"], "does not name the model", id="adapters of no model"),
        pytest.param(["manifest.json"], "no step of that run", id="a run without a model"),
        pytest.param(["step.json"], "has not finished", id="a step without a model"),
        pytest.param([], "no such folder", id="nothing"),
    ],
)
def test_a_folder_without_a_model_is_refused(
    files: list[str], message: str, read_model: ReadModel, tmp_path: Path
) -> None:
    for name in files:
        write_text(tmp_path / "place" / name, "{}")
    with pytest.raises(Refused, match=message) as refused:
        locate(read_model("hf", path=str(tmp_path / "place")))
    assert "model.path=" in str(refused.value)


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(broken_config, "cannot be read", id="half a config"),
        pytest.param(lambda folder: (folder / "config.json").write_text("[]"), "no JSON object", id="a list"),
        pytest.param(lambda folder: (folder / "config.json").write_text("{}"), "no model_type", id="no type"),
        pytest.param(
            lambda folder: (folder / "model.safetensors").unlink(), "no weights", id="a config alone"
        ),
    ],
)
def test_a_folder_with_half_a_model_is_refused(
    damage: Callable[[Path], None], message: str, tiny_folder: Path, tmp_path: Path, read_model: ReadModel
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    damage(folder)
    with pytest.raises(Refused, match=message):
        locate(read_model("hf", path=str(folder)))


def test_a_path_that_is_too_long_is_refused(read_model: ReadModel) -> None:
    with pytest.raises(Refused, match="no such folder"):
        locate(read_model("hf", path="/tmp/" + "a" * 300))


def test_another_model_beside_the_settings_of_the_tiny_one_is_refused(
    tiny_folder: Path, tmp_path: Path, read_model: ReadModel
) -> None:
    assert locate(read_model("tiny", path=str(tiny_folder))) == tiny_folder
    with pytest.raises(Refused, match=r"type model=hf model\.path=Qwen/"):
        locate(read_model("tiny", path="Qwen/Qwen2.5-0.5B"))
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    with pytest.raises(Refused, match="is not a tiny model"):
        locate(read_model("tiny", path=str(folder)))


def test_a_revision_of_a_folder_is_refused(read_model: ReadModel, tiny_folder: Path) -> None:
    with pytest.raises(Refused, match=r"drop model\.revision"):
        locate(read_model("hf", path=str(tiny_folder), revision="main"))


class Hub(BaseHTTPRequestHandler):
    """Refuses every request, with the reason in the header that the real hub uses."""

    def do_GET(self) -> None:
        gated = "gated" in self.path
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HTTPServer]:
    """Start a hub in this process that is used with an empty cache."""
    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("someone/gated-model", "accept its licence", id="gated"),
        pytest.param("someone/mistyped", "has no such model", id="unknown"),
    ],
)
def test_a_model_that_the_hub_refuses_is_refused_with_the_reason(
    path: str, message: str, hub: HTTPServer
) -> None:
    with pytest.raises(Refused, match=message):
        check_hub(path, None)


def test_an_unreachable_hub_is_refused_without_retries(hub: HTTPServer) -> None:
    hub.shutdown()
    hub.server_close()
    with pytest.raises(Refused, match="cannot be reached"):
        check_hub("someone/some-model", None)


def test_in_offline_mode_a_model_outside_the_cache_is_refused_without_a_request(
    hub: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Refused, match="HF_HUB_OFFLINE"):
        check_hub("someone/some-model", None)
