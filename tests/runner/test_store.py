"""The step store: finished steps, checkpoints of unfinished ones, and leases."""

import multiprocessing
from pathlib import Path

from r1exp.files import write_text
from r1exp.runner.store import StepStore
from r1exp.step.status import Status


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
