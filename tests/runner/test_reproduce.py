"""A run that is started again from its manifest gives the same result, and what was changed since is named."""

import shutil
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.files import read_json, write_json
from r1exp.paths import RunPaths

LINE = [
    "stage=sft", "max_steps=4", "dataset.num_train=100", "stage.rows_per_step=8", "model.shape.hidden_size=32",
    "model.shape.num_hidden_layers=1", "evaluation.before=false", "evaluation.num_problems=10", "evaluation.samples=1",
    "tracking=none", "launcher.threads_per_process=1",
]  # fmt: skip


@pytest.mark.slow
def test_a_run_is_reproduced_bit_for_bit_and_another_one_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*LINE, "paths.run=first"]) == 0
    manifest = read_json(RunPaths(Path("first")).manifest)
    write_json(
        RunPaths(Path("first")).manifest, manifest | {"versions": manifest["versions"] | {"trl": "0.1"}}
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    assert main(["reproduce", "../first"]) == 0
    captured = capsys.readouterr()
    assert "differs: version of trl: 0.1 there" in captured.err
    assert captured.out.endswith("the same result, bit for bit\n")
    again = tmp_path / "first-again-1"
    assert read_json(RunPaths(again).reproduction)["verdict"] == "equal"
    assert "reused" not in RunPaths(again).summary.read_text()
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "first", other)
    status = RunPaths(other).step(1, "sft").status
    write_json(status, read_json(status) | {"artifact": {"kind": "model", "hash": "0" * 16}})
    assert main(["reproduce", str(tmp_path / "first"), str(other)]) == 3
    assert capsys.readouterr().out.endswith("another result\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "but found 0"),
        (["nowhere"], "no such folder"),
        (["."], "has no manifest.json"),
        ([".", "beta=1"], "the settings of its manifest"),
        ([".", ".", "."], "but found 3"),
    ],
)
def test_what_cannot_be_reproduced_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *arguments]) == 2
    assert message in capsys.readouterr().err
