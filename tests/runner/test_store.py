"""The step store: finished steps, checkpoints of unfinished ones, and leases."""

import multiprocessing
from pathlib import Path

import pytest

from r1exp.files import hash_of_folder, make_read_only, write_text
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


def test_the_checkpoints_of_an_unfinished_step_are_linked(tmp_path: Path) -> None:
    store = StepStore(tmp_path / "store")
    first, second = finished(tmp_path / "first"), tmp_path / "second"
    store.write_working_directory("k", first)
    assert not store.take_checkpoints("k", second)  # the step is done, so that there is nothing to continue
    Status(state="interrupted").write(first)
    assert store.take_checkpoints("k", second)
    assert (second / "checkpoints" / "checkpoint-1" / "big").read_text() == "x"


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


def test_what_a_taken_over_step_had_logged_is_copied(tmp_path: Path) -> None:
    store = StepStore(tmp_path / "store")
    first, second = finished(tmp_path / "first"), tmp_path / "second"
    second.mkdir()
    Status(state="interrupted").write(first)
    write_text(first / "metrics.jsonl", '{"step": 1}\n')
    store.write_working_directory("k", first)
    assert store.take_checkpoints("k", second)
    copied = second / "metrics.jsonl"
    assert copied.read_text() == '{"step": 1}\n'
    assert (
        copied.stat().st_ino != (first / "metrics.jsonl").stat().st_ino
    )  # it is continued, so it is no link


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
