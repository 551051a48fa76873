"""A step that resumes from a checkpoint continues the same W&B run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from r1exp.errors import Interrupted
from r1exp.model.tiny import build_tiny
from r1exp.stage.run_stage import run_stage
from r1exp.stage.step import Step
from r1exp.step.stop_request import StopRequest, request_stop

OVERRIDES = [
    "stage=sft", "max_steps=3", "stage.rows_per_step=4", "dataset.num_train=40", "tracking.mode=offline",
    "trainer.logging_steps=1",
]  # fmt: skip


@pytest.mark.slow
def test_an_interrupted_step_continues_the_same_wandb_run_from_another_run_directory(
    frozen: Callable[..., Step], wandb_records: Callable[[Path], list[Record]], tmp_path: Path
) -> None:
    step = frozen(*OVERRIDES, model=str(tmp_path / "model"))
    build_tiny(step.config.model, tmp_path / "model")
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    # The request is found after the first optimizer step.
    request_stop(first, StopRequest(state="interrupted", reason="by the test"))
    with pytest.raises(Interrupted):
        run_stage(step, first)
    shutil.copytree(first / "checkpoints", second / "checkpoints")  # as the step store does
    status = run_stage(step.model_copy(update={"run_id": "another"}), second)
    opened = [(record.run.run_id, record.run.run_group) for folder in (first, second) for record in wandb_records(folder)
            if record.HasField("run")]  # fmt: skip
    assert len({identity for identity, _ in opened}) == 1
    assert opened[0] == (status.tracking_id, "run")
    steps = [logged_steps(wandb_records(folder)) for folder in (first, second)]
    assert steps[0] == {1}
    assert 1 not in steps[1]
    assert {2, 3} <= steps[1]


def logged_steps(records: list[Record]) -> set[int]:
    """Return the optimizer steps of the history rows."""
    return {record.history.step.num for record in records if record.HasField("history")}
