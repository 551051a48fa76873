"""What differs between the manifest of a run and what is here."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.files import read_json, write_json
from r1exp.paths import RunPaths
from r1exp.plan.steps import planned_steps
from r1exp.runner import differences as module
from r1exp.runner import manifest
from r1exp.runner.differences import checkout_of, code_differences, differences
from r1exp.runner.run_directory import start_run


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a small checkout, and let it be that of r1exp."""
    root = tmp_path / "checkout"
    (root / "r1exp").mkdir(parents=True)
    (root / "r1exp" / "loss.py").write_text("rate = 1\n")
    (root / "README.md").write_text("text\n")
    git(root, "init", "-q")
    commit(root)
    for place in (module, manifest):
        monkeypatch.setattr(place, "ROOT", root)
    return root


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "m")


def noted() -> dict[str, object]:
    return {"git": manifest.revision()}


def test_a_changed_line_of_code_is_shown_with_its_file_and_other_files_are_not(checkout: Path) -> None:
    before = noted()
    assert code_differences(before) == ""
    (checkout / "README.md").write_text("other text\n")
    assert code_differences(before) == ""
    (checkout / "r1exp" / "loss.py").write_text("rate = 2\n")
    lines = code_differences(before).splitlines()
    assert "+++ b/r1exp/loss.py" in lines and "-rate = 1" in lines and "+rate = 2" in lines
    commit(checkout)
    assert "+rate = 2" in code_differences(before)


def test_changes_that_were_not_committed_are_part_of_the_code_of_a_run(checkout: Path) -> None:
    (checkout / "r1exp" / "loss.py").write_text("rate = 3\n")
    before = noted()
    git(checkout, "checkout", "r1exp")
    assert "-rate = 3" in code_differences(before)
    with checkout_of(before) as folder:
        assert (folder / "r1exp" / "loss.py").read_text() == "rate = 3\n"
    assert not folder.exists()
    worktrees = subprocess.run(
        ["git", "-C", str(checkout), "worktree", "list"], capture_output=True, text=True, check=True
    )
    assert len(worktrees.stdout.splitlines()) == 1


def test_a_commit_that_is_not_here_is_said(checkout: Path) -> None:
    lost = {"git": {"commit": "1" * 40, "diff": ""}}
    assert "commit 1111111 there" in code_differences(lost)
    with pytest.raises(Refused, match="fetch the commit"), checkout_of(lost):
        pass


def test_an_installed_r1exp_is_not_checked_out(checkout: Path) -> None:
    installed = {"git": None, "versions": {"r1exp": "0.1.0"}}
    assert "an installed r1exp" in code_differences(installed)
    with pytest.raises(Refused, match=r"install r1exp==0\.1\.0"), checkout_of(installed):
        pass


def test_versions_settings_data_and_hardware_that_differ_are_named(
    compose_line: Callable[..., Experiment], tmp_path: Path
) -> None:
    experiment = compose_line("stage=sft", "tracking=none", f"paths.store={tmp_path}/store")
    steps = planned_steps(experiment)
    run = tmp_path / "run"
    start_run(experiment, steps, run)
    assert differences(run, steps) == []
    for path, keys, value in (
        (RunPaths(run).manifest, ("versions", "trl"), "0.1"),
        (RunPaths(run).manifest, ("steps", steps[0].name, "seed"), 9),
        (RunPaths(run).manifest, ("hardware", "cores"), 999),
        (RunPaths(run).plan, ("steps", 0, "inputs", "dataset"), "f" * 16),
    ):
        content = read_json(path)
        place = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        write_json(path, content)
    found = [difference.what for difference in differences(run, steps)]
    assert found == [
        "version of trl",
        f"{steps[0].name}: seed",
        f"content of {steps[0].name}'s dataset",
        "hardware: cores",
    ]
