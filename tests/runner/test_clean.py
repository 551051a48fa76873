"""What no run needs of the step store is shown, and freed when that is typed."""

from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.files import link_tree, write_json, write_text
from r1exp.paths import RunPaths, StorePaths
from r1exp.runner.clean import clean
from r1exp.runner.store import StepStore
from r1exp.step.status import ArtifactInfo, Status

SIZE = 1_000_000


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Make a folder of runs whose store has three steps: of a run that is there, of one that plans it, and of a lost one."""
    folder = tmp_path / "runs"
    store = StepStore(folder / ".store")
    for key, run in (("aaaa-1", "first"), ("bbbb-1", "second"), ("cccc-1", "lost")):
        step = folder / run / "steps" / "01-sft"
        write_text(step / "artifact" / "model", run[0] * SIZE)
        Status(state="done", artifact=ArtifactInfo(kind="model", hash="0")).write(step)
        link_tree(step, store.paths.steps / key)
        write_json(RunPaths(folder / run).manifest, {"step_keys": [key.partition("-")[0]]})
    lost = folder / "lost"
    for path in sorted(lost.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    lost.rmdir()
    second = (
        folder / "second" / "steps" / "01-sft" / "artifact" / "model"
    )  # a copy, as on another file system
    second.unlink()
    second.write_text("copy")
    return folder


def steps_in(runs: Path) -> list[str]:
    return sorted(path.name for path in StorePaths(runs / ".store").steps.iterdir())


def test_what_no_run_needs_is_shown_and_nothing_is_freed_before_it_is_typed(runs: Path) -> None:
    text = clean(runs)
    assert "cccc-1" in text and "aaaa" not in text and "bbbb" not in text
    assert "3 finished steps, 1 of them needed by no run" in text
    assert "1.0 MB" in text and "--free` frees 1.0 MB" in text
    assert steps_in(runs) == ["aaaa-1", "bbbb-1", "cccc-1"]


def test_what_no_run_needs_is_freed_and_the_files_of_runs_stay(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clean", str(runs), "--free"]) == 0
    assert "freed 1.0 MB" in capsys.readouterr().out
    assert steps_in(runs) == ["aaaa-1", "bbbb-1"]
    assert (runs / "first/steps/01-sft/artifact/model").stat().st_size == SIZE
    assert "needed by no run" in clean(runs) and "--free" not in clean(runs)


def test_a_step_that_a_run_elsewhere_links_is_kept(runs: Path, tmp_path: Path) -> None:
    link_tree(StorePaths(runs / ".store").steps / "cccc-1", tmp_path / "elsewhere" / "steps" / "01-sft")
    assert "0 of them needed by no run" in clean(runs, frees=True)
    assert steps_in(runs) == ["aaaa-1", "bbbb-1", "cccc-1"]


def test_nothing_is_freed_while_a_step_is_executed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = StepStore(runs / ".store")
    with store.lease("dddd-1", lambda: None):
        assert main(["clean", str(runs), "--free"]) == 2
    assert "dddd-1" in capsys.readouterr().err
    assert len(steps_in(runs)) == 3


def test_what_a_killed_command_left_is_freed(runs: Path) -> None:
    steps = StorePaths(runs / ".store").steps
    (steps / "cccc-1").rename(steps / ".removed-cccc-1")
    assert "2 finished steps" in clean(runs, frees=True)
    assert steps_in(runs) == ["aaaa-1", "bbbb-1"]


@pytest.mark.parametrize("arguments", [["--freee"], ["a", "b"], ["beta=1"], []])
def test_what_cannot_be_cleaned_is_refused(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["clean", *arguments]) == 2
