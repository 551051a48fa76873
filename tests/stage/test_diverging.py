"""A run that diverges: the checkpoint that its end names is from before the trouble, and was kept."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from r1exp.__main__ import main
from r1exp.step.checkpoints import checkpoints
from r1exp.step.status import read_status

# The learning rate rises by 0.75 with each optimizer step: from the third on the weights grow without bound.
LINE = [
    "stage=sft", "tracking=none", "evaluation.before=false", "evaluation.after=false", "health=off", "max_steps=60",
    "trainer.save_steps=1", "trainer.save_total_limit=2", "learning_rate=300", "trainer.warmup_steps=400",
    "trainer.lr_scheduler_type=constant_with_warmup", "dataset.num_train=400", "stage.rows_per_step=8",
    "model.shape.hidden_size=32", "model.shape.num_hidden_layers=1", "model.shape.intermediate_size=64",
    "launcher=local", "launcher.device=cpu", "paths.run=run", "paths.store=store",
]  # fmt: skip


def largest(checkpoint: Path) -> float:
    """Return the largest weight of a checkpoint."""
    return max(float(weight.abs().max()) for weight in load_file(checkpoint / "model.safetensors").values())


@pytest.mark.slow
def test_a_diverged_run_keeps_and_names_a_checkpoint_from_before_the_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(LINE) == 3
    step = Path("run/steps/01-sft")
    status = read_status(step)
    assert status is not None and status.reason is not None and status.checkpoint is not None
    assert (
        "the norm of the gradient is" in status.reason
        and "the trouble began at optimizer step 4)" in status.reason
    )
    assert f"the last good checkpoint is {step / status.checkpoint}" in status.reason
    *_, newest = found = checkpoints(step)
    assert len(found) == 3  # two, and the good one
    assert largest(step / status.checkpoint) < 5 < 50 < largest(newest)
