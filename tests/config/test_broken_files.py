"""Files that cannot be read, or do not say what they should, are refused with their place and without a traceback."""

from pathlib import Path

import pytest

from r1exp.__main__ import main

HEAD = "# @package _global_\n"
PARAMS = f"{HEAD}hydra:\n  mode: MULTIRUN\n  sweeper:\n    params: "


@pytest.mark.parametrize(
    ("group", "text", "part"),
    [
        pytest.param("sweeps", f"{PARAMS}'seed=1,2'\n", "Cannot assign str", id="params are text"),
        pytest.param("sweeps", f"{PARAMS}{{seed: [1,2]}}\n", 'seed: "1,2"', id="values are a YAML list"),
        pytest.param("sweeps", f"{PARAMS}{{seed: 1,2}}\n", "Key 2", id="values without quotes"),
        pytest.param("sweeps", f"{PARAMS}{{seeed: '1,2'}}\n", "Did you mean seed?", id="a misspelt key"),
        pytest.param("sweeps", f"{PARAMS}{{seed: '(1'}}\n", "cannot read the override 'seed=(1'", id="a bracket"),
        pytest.param("sweeps", f"{PARAMS}{{seed: 'interval(1,2)'}}\n", "hydra/sweeper=optuna", id="an interval"),
        pytest.param("sweeps", PARAMS.replace("params", "param") + "{seed: '1'}\n", "'param'", id="a misspelt setting"),
        pytest.param("sweeps", "hydra:\n  mode: MULTIRUN\n", "# @package _global_", id="no package"),
        pytest.param("experiment", b"\xff\xfe\x00", "mine.yaml cannot be read", id="bytes"),
        pytest.param("experiment", HEAD.encode() + b"name: '\xff'\n", "mine.yaml cannot be read", id="Latin-1"),
        pytest.param("experiment", f"{HEAD}defaults: 3\n", "defaults must be a list", id="no defaults list"),
        pytest.param("experiment", f"{HEAD}seed: 1\n\tname: x\n", "line 3, column 1", id="a tab"),
        pytest.param("experiment", f"{HEAD}1: 2\n", "experiment/mine.yaml: cannot read", id="a number as key"),
        pytest.param("experiment", f"{HEAD}name: ${{nothing}}\n", "does not exist", id="an interpolation"),
        pytest.param("experiment", f"{HEAD}name: ${{name}}\n", "Recursive", id="a circle"),
        pytest.param("experiment", "just text\n", "experiment/mine.yaml", id="no mapping"),
        pytest.param("pipeline", "focus: a\nsteps: {a: 3}\n", "pipeline.steps.a", id="a step that is none"),
    ],
)  # fmt: skip
def test_a_broken_option_is_refused(
    group: str, text: str | bytes, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / group / "mine.yaml"
    file.parent.mkdir()
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["plan", f"--config-dir={tmp_path}", f"{group}=mine"]) == 2
    assert part in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "line", "part"),
    [
        pytest.param("sweep.json", "[{", ["sweep", "status", "."], "sweep.json is damaged", id="table"),
        pytest.param("0/summary.json", "x", ["sweep", "report", "."], "is damaged", id="summary"),
        pytest.param("0/summary.json", "[]", ["sweep", "report", "."], "is damaged", id="another file"),
        pytest.param("0/plan.json", "{", ["sweep", "status", "."], "plan.json", id="plan"),
        pytest.param("manifest.json", "{", ["stage=sft", "tracking=none", "paths.run=."], "is damaged", id="manifest"),
        pytest.param("file", "", ["stage=sft", "tracking=none", "paths.run=file"], "cannot be written", id="run"),
        pytest.param("file", "", ["-m", "stage=sft", "tracking=none", "seed=1,2", "hydra.sweep.dir=file"],
                     "set hydra.sweep.dir=DIR", id="sweep"),
        pytest.param("file", "", ["plan", "=3"], "has no key", id="no key"),
        pytest.param("file", "", ["plan", "name=\udcff"], "no UTF-8", id="bytes on the command line"),
        pytest.param("file", "", ["plan", "seed=4294967296"], "4294967296", id="a seed that is too large"),
        pytest.param("file", "", ["--config-dir="], "needs a folder", id="no folder"),
        pytest.param("file", "", ["sweep", "report", "nowhere"], "no such folder", id="no sweep"),
    ],
)  # fmt: skip
def test_a_broken_folder_is_refused(
    name: str,
    text: str,
    line: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert main(line) == 2
    assert part in capsys.readouterr().err
