"""A step that is killed after its last checkpoint, and before it has its artifact, trains no further."""

import json
import shutil
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.step.status import Status, read_status

# The last optimizer step is not the last one of an epoch: there transformers stops by itself.
SFT = (
    "stage=sft",
    "max_steps=8",
    "stage.rows_per_step=16",
    "dataset.num_train=96",
)  # 6 optimizer steps an epoch
GRPO = ("stage=rl", "rewards=strict", "max_steps=4", "algorithm.prompts_per_step=4", "dataset.num_train=12")


@pytest.mark.slow
@pytest.mark.parametrize("stage", [SFT, GRPO], ids=["sft", "grpo"])
def test_it_ends_with_the_same_model(
    stage: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = [*stage, "tracking=none", "evaluation.before=false", "evaluation.after=false", "paths.run=run"]
    line += ["launcher=local", "trainer.save_strategy=steps", "trainer.save_steps=1"]
    assert main(line) == 0
    [folder] = (tmp_path / "run" / "steps").iterdir()
    done = read_status(folder)
    assert done is not None and done.artifact is not None
    rows = (folder / "metrics.jsonl").read_text()
    shutil.rmtree(folder / "artifact")
    shutil.rmtree(tmp_path / "runs" / ".store" / "steps")
    Status(state="running").write(folder)
    assert main(line) == 0
    again = read_status(folder)
    assert again is not None and again.artifact is not None
    assert again.artifact.hash == done.artifact.hash
    steps = [json.loads(row)["step"] for row in rows.splitlines()]
    assert [json.loads(row)["step"] for row in (folder / "metrics.jsonl").read_text().splitlines()] == steps
