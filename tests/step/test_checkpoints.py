"""Checkpoints are accepted only by the experiment they belong to."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.errors import Refused
from r1exp.files import write_text
from r1exp.stage.step import Step
from r1exp.step.checkpoints import (
    last_checkpoint,
    mark_complete,
    mark_of,
    pass_over_damaged,
    recorded,
    refuse_other_format,
    remove_incomplete,
    rotate,
)

RL = ["stage=rl", "beta=0.01"]


def checkpoint(folder: Path, step: Step) -> Path:
    """Write a complete checkpoint of `step` into `folder` and return it."""
    path = folder / "checkpoints" / "checkpoint-3"
    path.mkdir(parents=True)
    mark_complete(path, step, 3, "w4ndb")
    return path


def test_a_checkpoint_of_the_same_experiment_is_accepted_with_its_tracking_id(
    frozen: Callable[..., Step], tmp_path: Path
) -> None:
    checkpoint(tmp_path, frozen(*RL))
    found = last_checkpoint(tmp_path)
    assert found is not None
    elsewhere = frozen(*RL, "launcher=ddp", "launcher.num_processes=2", "tracking=none")
    mark = mark_of(found, elsewhere)
    assert (mark.global_step, mark.tracking_id) == (3, "w4ndb")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(["beta=0.02"], r"beta is 0\.01 there and 0\.02 here", id="a setting"),
        pytest.param(["seed=2", "beta=0.01"], r"seed is 1 there and 2 here", id="the seed"),
        pytest.param(
            ["dataset.seed=5"], "its data have the fingerprint .*dataset.seed is 0 there and 5", id="data"
        ),
        pytest.param(["algorithm=ppo"], "algorithm.*, and .* more", id="the algorithm"),
    ],
)
def test_a_checkpoint_of_another_experiment_is_refused_with_the_differences(
    frozen: Callable[..., Step], tmp_path: Path, overrides: list[str], message: str
) -> None:
    checkpoint(tmp_path / "theirs", frozen(*RL))
    shutil.copytree(tmp_path / "theirs" / "checkpoints", tmp_path / "ours" / "checkpoints")
    copied = last_checkpoint(tmp_path / "ours")
    assert copied is not None
    with pytest.raises(Refused, match=message) as refusal:
        mark_of(copied, frozen(*RL, *overrides))
    assert f"type: rm -r '{tmp_path / 'ours' / 'checkpoints'}'" in str(refusal.value)


def test_a_checkpoint_that_started_from_other_weights_is_refused(
    frozen: Callable[..., Step], tmp_path: Path
) -> None:
    step = frozen(*RL)
    path = checkpoint(tmp_path, step)
    with pytest.raises(Refused, match="it started from another model"):
        mark_of(path, step.model_copy(update={"key": "another"}))


def test_a_mark_of_another_version_is_refused(frozen: Callable[..., Step], tmp_path: Path) -> None:
    step = frozen(*RL)
    path = checkpoint(tmp_path, step)
    (path / "complete.json").write_text('{"key": "k", "step": 3}')
    with pytest.raises(Refused, match="not written by this version"):
        mark_of(path, step)


def test_incomplete_checkpoints_are_removed(frozen: Callable[..., Step], tmp_path: Path) -> None:
    complete = checkpoint(tmp_path, frozen(*RL))
    (complete.parent / "checkpoint-6").mkdir()
    assert last_checkpoint(tmp_path) == complete
    remove_incomplete(tmp_path)
    assert [path.name for path in complete.parent.iterdir()] == ["checkpoint-3"]


def with_files(folder: Path, step: Step, *global_steps: int) -> list[Path]:
    """Write complete checkpoints with a file of rank 0, one of rank 1 and one in a folder below."""
    found = []
    for number in global_steps:
        path = folder / "checkpoints" / f"checkpoint-{number}"
        write_text(path / "optimizer.pt", f"moments of {number}")
        write_text(path / "rng_state_1.pth", "state")
        write_text(path / "global_step" / "zero_pp_rank_1_mp_rank_00_optim_states.pt", "partition")
        mark_complete(path, step, number, None)
        found.append(path)
    return found


def truncate(checkpoint: Path) -> None:
    os.truncate(checkpoint / "optimizer.pt", 3)


def change(checkpoint: Path) -> None:
    (checkpoint / "optimizer.pt").write_text("MOMENTS OF 6")


def remove(checkpoint: Path) -> None:
    (checkpoint / "rng_state_1.pth").unlink()


def tear_mark(checkpoint: Path) -> None:
    os.truncate(checkpoint / "complete.json", 20)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        pytest.param(truncate, "optimizer.pt has 3 bytes and was written with 12", id="a file that is cut"),
        pytest.param(change, "optimizer.pt has another content than was written", id="another content"),
        pytest.param(remove, "rng_state_1.pth is missing", id="a file that is missing"),
        pytest.param(tear_mark, "complete.json is no JSON", id="the mark"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_named(
    frozen: Callable[..., Step], tmp_path: Path, harm: Callable[[Path], None], message: str
) -> None:
    older, newer = with_files(tmp_path, frozen(*RL), 3, 6)
    harm(newer)
    (told,) = pass_over_damaged(tmp_path)
    assert told.startswith(f"checkpoint-6 is damaged and passed over: {message}; it is kept as damaged-")
    assert last_checkpoint(tmp_path) == older
    assert pass_over_damaged(tmp_path) == []


def test_without_a_whole_checkpoint_there_is_none_to_resume_from(
    frozen: Callable[..., Step], tmp_path: Path
) -> None:
    for checkpoint in with_files(tmp_path, frozen(*RL), 3, 6):
        truncate(checkpoint)
    assert len(pass_over_damaged(tmp_path)) == 2
    assert last_checkpoint(tmp_path) is None


def test_each_rank_records_the_files_that_it_has_written(frozen: Callable[..., Step], tmp_path: Path) -> None:
    (checkpoint,) = with_files(tmp_path, frozen(*RL), 3)
    assert set(recorded(checkpoint, 0, 2)) == {"optimizer.pt"}
    assert set(recorded(checkpoint, 1, 2)) == {
        "rng_state_1.pth",
        "global_step/zero_pp_rank_1_mp_rank_00_optim_states.pt",
    }
    assert len(recorded(checkpoint, 0, 1)) == 3  # written by more ranks than there are now


def test_rotation_keeps_the_newest_and_one_that_is_named(frozen: Callable[..., Step], tmp_path: Path) -> None:
    first, _, _, last = with_files(tmp_path, frozen(*RL), 3, 6, 9, 12)
    (tmp_path / "checkpoints" / "damaged-checkpoint-15").mkdir()
    rotate(tmp_path, None)
    assert len(list(first.parent.iterdir())) == 4  # the damaged one is gone
    rotate(tmp_path, 1, kept=first)
    assert sorted(first.parent.iterdir()) == sorted([first, last])


@pytest.mark.parametrize(
    ("folder", "ours", "message"),
    [
        pytest.param("pytorch_model_fsdp_0", "plain", "under launcher=fsdp2, in files that launcher=x", id="shards"),
        pytest.param("global_step3", "plain", "under launcher=zero1, zero2 or zero3", id="DeepSpeed's"),
        pytest.param("other", "fsdp2", "under launcher=local or launcher=ddp", id="whole weights"),
    ],
)  # fmt: skip
def test_a_checkpoint_whose_files_the_launcher_does_not_read_is_refused(
    folder: str, ours: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint-3" / folder).mkdir(parents=True)
    with pytest.raises(Refused, match=f"checkpoint-3 was written {message}"):
        refuse_other_format(tmp_path / "checkpoint-3", "x", ours)  # type: ignore[arg-type]
