"""The step store: finished steps, checkpoints of unfinished ones, and leases."""

import itertools
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.errors import StepFailed
from r1exp.files import hash_of_folder, make_read_only, write_text
from r1exp.paths import StepPaths
from r1exp.runner.store import StepStore
from r1exp.step.status import ArtifactInfo, Status


def finished(folder: Path) -> Path:
    write_text(folder / "artifact" / "model", "weights")
    write_text(folder / "checkpoints" / "checkpoint-1" / "big", "x")
    Status(state="done").write(folder)
    return folder


def test_a_published_step_is_found_without_its_checkpoints(tmp_path: Path) -> None:
    store = StepStore(tmp_path / "store")
    assert store.find("k") is None
    store.publish("k", finished(tmp_path / "step"))
    found = store.find("k")
    assert found is not None
    assert (found / "artifact" / "model").read_text() == "weights"
    assert not (found / "checkpoints").exists()


def unfinished(folder: Path, *steps: int) -> Path:
    """Make the folder of an execution that was killed after some checkpoints."""
    Status(state="running").write(folder)
    write_text(
        folder / "metrics.jsonl",
        "".join(f'{{"step": {step}}}\n' for step in range(1, max(steps, default=0) + 2)),
    )
    for step in steps:
        write_text(folder / "checkpoints" / f"checkpoint-{step}" / "weights", f"after {step} steps")
        write_text(folder / "checkpoints" / f"checkpoint-{step}" / "complete.json", "{}")
    return folder


def saved(folder: Path) -> list[int]:
    """Return the optimizer steps of the checkpoints in a folder."""
    return [
        int(paths.folder.name.removeprefix("checkpoint-")) for paths in StepPaths(folder).all_checkpoints()
    ]


def test_two_interrupted_runs_of_a_step_go_on_from_each_other_s_checkpoints(tmp_path: Path) -> None:
    store = StepStore(tmp_path / "store")
    first, second = tmp_path / "first", tmp_path / "second"
    store.take_over("k", first)
    unfinished(first, 2)
    store.take_over("k", second)
    assert saved(second) == [2]
    unfinished(second, 2, 4)
    store.take_over("k", first)
    assert saved(first) == [2, 4]
    unfinished(first, 2, 4, 6)
    store.take_over("k", second)
    assert saved(second) == [2, 4, 6]
    assert (second / "checkpoints" / "checkpoint-6" / "weights").read_text() == "after 6 steps"
    assert (second / "metrics.jsonl").read_text().count("step") == 7


def test_a_run_keeps_its_checkpoints_if_the_other_run_did_not_get_as_far_or_was_removed(
    tmp_path: Path,
) -> None:
    store = StepStore(tmp_path / "store")
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for folder, steps in ((first, (4,)), (second, (2,))):
        store.take_over("k", folder)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        unfinished(folder, *steps)
    shutil.rmtree(second)
    store.take_over("k", third)
    assert saved(third) == [4]
    store.take_over("k", first)
    assert saved(first) == [4]


def test_an_execution_that_finished_with_another_artifact_is_not_continued(tmp_path: Path) -> None:
    store = StepStore(tmp_path / "store")
    first, second = finished(tmp_path / "first"), tmp_path / "second"
    store.take_over("k", first)
    Status(state="done").write(unfinished(first, 2))
    store.take_over("k", second)
    assert saved(second) == []


def test_a_kill_at_any_moment_of_taking_over_leaves_what_both_runs_can_go_on_with(tmp_path: Path) -> None:
    """Child after child ends one call later that changes the file system, until one gets to the end."""
    for stop in itertools.count(1):
        place = tmp_path / str(stop)
        store, first, second = StepStore(place / "store"), place / "first", place / "second"
        store.take_over("k", first)
        unfinished(first, 2, 4)
        unfinished(second, 2)
        write_text(second / "artifact" / "model", "torn")
        if (child := os.fork()) == 0:
            sys.addaudithook(_end_at(stop))
            store.take_over("k", second)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        for folder in (first, second):
            complete = [paths for paths in StepPaths(folder).all_checkpoints() if paths.mark.exists()]
            assert all((paths.folder / "weights").exists() for paths in complete)
            store.take_over("k", folder)
            assert saved(folder) == [2, 4]
            assert (folder / "metrics.jsonl").read_text().count("step") == 5
            assert not list(folder.rglob(".*"))
        if status == 0:
            break
    assert stop > 20


def _end_at(stop: int) -> Callable[[str, object], None]:
    seen = 0

    def hook(event: str, arguments: object) -> None:
        nonlocal seen
        if event in ("os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "open"):
            seen += 1
            if seen == stop:
                os._exit(9)

    return hook


def test_a_folder_is_taken_over_only_when_the_ranks_of_a_killed_run_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r1exp.runner.store._RANKS_PATIENCE", 0.2)
    store = StepStore(tmp_path / "store")
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    store.take_over("k", first)
    code = (
        "import sys, time; from pathlib import Path; from r1exp.step.ranks import hold_folder; "
        "hold_folder(Path(sys.argv[1])); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(first)], stdout=subprocess.PIPE) as rank:
        assert rank.stdout is not None and rank.stdout.readline()
        with pytest.raises(StepFailed, match=r"still run in .*first"):
            store.take_over("k", second)
        rank.kill()
    store.take_over("k", second)


def test_a_step_that_was_finished_and_not_shared_before_a_kill_is_shared_by_the_next_run(
    tmp_path: Path,
) -> None:
    store = StepStore(tmp_path / "store")
    first = tmp_path / "first"
    store.take_over("k", first)
    finished(first)
    assert store.find("k") is None
    assert store.find_unpublished("k") == first
    assert store.find("k") is not None


def _lease(folder: Path, held: "multiprocessing.synchronize.Event") -> None:
    with StepStore(folder).lease("k", on_wait=lambda: None):
        held.set()
        multiprocessing.Event().wait(60)


def test_a_lease_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=_lease, args=(tmp_path, held))
    holder.start()
    assert held.wait(30)
    waited = []

    def kill_holder() -> None:
        waited.append(True)
        holder.kill()

    with StepStore(tmp_path).lease("k", on_wait=kill_holder):
        assert waited == [True]
    holder.join()


def test_what_a_taken_over_step_had_logged_is_copied_and_not_linked(tmp_path: Path) -> None:
    store = StepStore(tmp_path / "store")
    first, second = tmp_path / "first", tmp_path / "second"
    store.take_over("k", first)
    unfinished(first, 1)
    store.take_over("k", second)
    copied = second / "metrics.jsonl"
    assert copied.stat().st_ino != (first / "metrics.jsonl").stat().st_ino


def test_a_finished_step_whose_artifact_was_edited_is_put_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = StepStore(tmp_path / "store")
    folder = finished(tmp_path / "step")
    artifact = ArtifactInfo(kind="model", hash=hash_of_folder(folder / "artifact"))
    Status(state="done", artifact=artifact).write(folder)
    store.publish("k", folder)
    found = store.find("k")
    assert found is not None
    (found / "artifact" / "model").unlink()
    write_text(found / "artifact" / "model", "edited")
    assert store.find("k") is None
    assert (found.parent / "k.changed-1" / "artifact" / "model").read_text() == "edited"
    assert "was changed after it was made" in capsys.readouterr().err


def test_the_files_of_an_artifact_cannot_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / "artifact" / "model", "weights")
    make_read_only(tmp_path / "artifact")
    assert (tmp_path / "artifact" / "model").stat().st_mode & 0o222 == 0
