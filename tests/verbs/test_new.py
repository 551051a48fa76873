"""What `r1exp new` writes works as it is, and every line that it prints works as typed."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.prompt.style import style_named

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
GROUPS = {
    "reward": "rewards",
    "dataset": "dataset",
    "prompt": "prompt",
    "algorithm": "algorithm",
    "experiment": "experiment",
}
each_kind = pytest.mark.parametrize("kind", GROUPS)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, with the programs of this environment on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)


def new(kind: str, name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Write an option, and return the lines to type next."""
    capsys.readouterr()
    assert main(["new", kind, name]) == 0
    shown = capsys.readouterr().out
    assert "Next, type:\n" in shown
    return [line.strip() for line in shown.partition("Next, type:\n")[2].splitlines()]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@each_kind
def test_it_writes_code_option_and_test_into_the_current_folder(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"written_{kind}"
    lines = new(kind, name, capsys)
    code = set() if kind == "experiment" else {f"{name}.py"}
    assert files(tmp_path) == code | {f"conf/{GROUPS[kind]}/{name}.yaml", f"test_{name}.py"}
    text = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert not re.search(r"\b(NAME|CLASS)\b", text)
    assert lines[-1] == f"python -m pytest test_{name}.py"


@each_kind
def test_its_option_is_planned_and_checked(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed lines with `plan` and `check`, in this process; the slow test below types all of them."""
    typed = [shlex.split(line) for line in new(kind, f"planned_{kind}", capsys)]
    quick = [words[1:] for words in typed if words[:2] in (["r1exp", "plan"], ["r1exp", "check"])]
    assert quick
    for arguments in quick:
        assert main(arguments) == 0
        assert capsys.readouterr().out


@pytest.mark.slow
@each_kind
def test_every_printed_line_works_as_typed(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = new(kind, f"typed_{kind}", capsys)
    assert any("debug=fast" in line for line in lines)
    for line in lines:
        done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert list(tmp_path.glob("runs/*/*/summary.json"))


@each_kind
def test_a_file_is_never_overwritten(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new(kind, "mine_too", capsys)
    for path in sorted(tmp_path.rglob("*")):
        if path.is_file():
            before = files(tmp_path) - {str(path.relative_to(tmp_path))}
            others = [tmp_path / other for other in before]
            kept = {other: other.read_text() for other in others}
            for other in others:
                other.unlink()
            path.write_text("my own work")
            assert main(["new", kind, "mine_too"]) == 2
            assert "is not overwritten" in capsys.readouterr().err
            assert files(tmp_path) == {str(path.relative_to(tmp_path))}
            assert path.read_text() == "my own work"
            for other, text in kept.items():
                other.write_text(text)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        pytest.param([], "takes a kind and a name", id="nothing"),
        pytest.param(["reward"], "takes a kind and a name", id="no name"),
        pytest.param(["rewrad", "mine"], "Did you mean `r1exp new reward mine`?", id="misspelt kind"),
        pytest.param(["rewards", "mine"], "Did you mean `r1exp new reward mine`?", id="the group"),
        pytest.param(["stage", "mine"], "writes a reward, dataset", id="another kind"),
        pytest.param(["reward", "3rd"], "cannot be the name of a Python module", id="starts with a digit"),
        pytest.param(["reward", "a-b"], "cannot be the name of a Python module", id="a hyphen"),
        pytest.param(["reward", "../up"], "cannot be the name of a Python module", id="a path"),
        pytest.param(["reward", "class"], "cannot be the name of a Python module", id="a keyword"),
        pytest.param(["reward", "null"], "read as a value", id="a value"),
        pytest.param(["reward", "graded"], "rewards=graded exists already", id="an option of r1exp"),
        pytest.param(["reward", "json"], "there is a Python module 'json'", id="a standard module"),
        pytest.param(["dataset", "torch"], "there is a Python module 'torch'", id="an installed module"),
    ],
)
def test_a_request_that_cannot_work_is_refused_and_writes_nothing(
    arguments: list[str], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", *arguments]) == 2
    message = capsys.readouterr().err
    assert part in message and "Traceback" not in message
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("kind", "name", "made"),
    [
        pytest.param("reward", "brief_answers", "class BriefAnswers(Reward)", id="several words"),
        pytest.param("reward", "reward", "class RewardReward(Reward)", id="the base class's name"),
        pytest.param("reward", "none", "class NoneReward(Reward)", id="a Python constant"),
        pytest.param("algorithm", "grpo2", "class Grpo2(Grpo)", id="a digit"),
        pytest.param("prompt", "text", 'TEXT_STYLE = Tagged("text"', id="a name the test uses"),
    ],
)
def test_the_class_has_a_name_of_its_own(
    kind: str, name: str, made: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new(kind, name, capsys)
    assert made in (tmp_path / f"{name}.py").read_text()


def test_the_generated_style_is_used_by_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    new("prompt", "shown", capsys)
    assert style_named("shown:SHOWN").tags[2] == "<summary>"
