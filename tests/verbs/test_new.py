"""`r1exp new KIND NAME`: the files it writes work, and what it refuses."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.errors import Refused
from r1exp.verbs import new
from r1exp.verbs.templates import KINDS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty current folder, from which modules can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def files(folder: Path) -> set[str]:
    """Return the names of the files below a folder, without what Python and pytest write."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in paths if not re.search("__pycache__|pytest_cache", str(path))}


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_printed_commands_and_the_written_tests_pass(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"own_{kind}"
    assert main(["new", kind, name]) == 0
    group = KINDS[kind].group
    expected = {f"{name}.py", f"conf/{group}/{name}.yaml", f"test_{name}.py"}
    assert files(folder) == expected - ({f"{name}.py"} if kind == "experiment" else set())

    importlib.invalidate_caches()  # the folder was listed before the module was written
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert lines[-1] == ["python", "-m", "pytest", f"test_{name}.py"]
    assert ["r1exp", "plan", "--config-dir", "conf", f"{group}={name}"] in lines
    assert (["r1exp", "check", "--config-dir", "conf", f"{group}={name}"] in lines) == (kind == "reward")
    for _, *arguments in lines[:-1]:
        assert main(arguments) == 0
    tests = python(folder, "-m", "pytest", "-q", f"test_{name}.py")
    assert tests.returncode == 0, tests.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_the_yaml_opens_with_purpose_source_and_a_command(kind: str, folder: Path) -> None:
    assert main(["new", kind, f"opening_{kind}"]) == 0
    text = (folder / "conf" / KINDS[kind].group / f"opening_{kind}.yaml").read_text()
    purpose, source, command, *_ = text.removeprefix("# @package _global_\n").splitlines()
    assert purpose.startswith("# ")
    assert source.startswith("# Source: ")
    assert command.startswith("#   r1exp ")


@pytest.mark.parametrize(
    "existing", ["mine.py", "conf/rewards/mine.yaml", "test_mine.py"], ids=["module", "yaml", "test"]
)
def test_a_file_that_exists_is_not_overwritten(existing: str, folder: Path) -> None:
    (folder / existing).parent.mkdir(parents=True, exist_ok=True)
    (folder / existing).write_text("kept")
    with pytest.raises(Refused, match=f"{re.escape(existing)} exists already"):
        new.main(["reward", "mine"])
    assert (folder / existing).read_text() == "kept"
    assert files(folder) == {existing}


@pytest.mark.parametrize(
    "name", ["a-b", "1st", "", "class", "_mine", "a.b", "../up", "null", "yes", "inf", "größe"]
)
def test_a_name_that_python_yaml_or_hydra_reads_otherwise_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(Refused, match="must be a Python identifier"):
        new.main(["reward", name])
    assert files(folder) == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rewards", "mine"], "Did you mean `r1exp new reward mine`?"),
        (["algo"], "Did you mean `r1exp new algorithm`?"),
        ([], "found nothing. Kinds: reward, dataset, prompt, algorithm, experiment."),
        (["reward"], "takes one NAME, and found 0"),
        (["reward", "one", "two"], "takes one NAME, and found 2"),
        (["reward", "strict"], "rewards=strict exists already"),
        (["dataset", "gsm8k"], "dataset=gsm8k exists already"),
        (["experiment", "rlhf_sums"], "experiment=rlhf_sums exists already"),
        (["dataset", "json"], "a Python module named json exists already"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_refused(
    arguments: list[str], message: str, folder: Path
) -> None:
    with pytest.raises(Refused, match=re.escape(message)):
        new.main(arguments)
    assert files(folder) == set()


@pytest.mark.parametrize(
    ("kind", "name", "class_name"),
    [
        ("reward", "brevity", "BrevityReward"),
        ("reward", "my_reward", "MyReward"),
        ("reward", "reward", "RewardReward"),
        ("dataset", "dataset", "DatasetDataset"),
    ],
)
def test_the_class_has_another_name_than_its_base_class(
    kind: str, name: str, class_name: str, folder: Path
) -> None:
    new.main([kind, name])
    assert f"class {class_name}(" in (folder / f"{name}.py").read_text()


def test_no_module_imports_torch(folder: Path) -> None:
    for kind in KINDS:
        new.main([kind, f"light_{kind}"])
    modules = [f"light_{kind}" for kind in KINDS if kind != "experiment"]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert python(folder, "-c", code).returncode == 0


@pytest.mark.slow
def test_a_run_with_everything_of_ones_own_finishes(folder: Path) -> None:
    for kind in ("reward", "dataset", "prompt", "algorithm"):
        assert main(["new", kind, f"all_{kind}"]) == 0
    options = [f"{KINDS[kind].group}=all_{kind}" for kind in ("reward", "dataset", "prompt", "algorithm")]
    smaller = ["max_completion_length=32", "algorithm.prompts_per_step=4", "launcher=local"]
    run = ["debug=fast", "tracking=none", "paths.run=run", "evaluation.before=false"]
    done = python(folder, "-m", "r1exp", "--config-dir", "conf", *options, *run, *smaller)
    assert done.returncode == 0, done.stderr
    assert '"state": "done"' in (folder / "run" / "summary.json").read_text()
