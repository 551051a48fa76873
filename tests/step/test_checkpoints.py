"""Checkpoints are accepted only by the experiment they belong to."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.errors import Refused
from r1exp.stage.step import Step
from r1exp.step.checkpoints import last_checkpoint, mark_complete, mark_of, remove_incomplete

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
