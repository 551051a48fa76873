"""A real small disk: a step that does not fit is refused, one whose disk becomes full fails and goes on when there is room."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.plan.run_plan import PlanStep
from r1exp.plan.steps import planned_steps
from r1exp.runner import disk_space as disk_space_module
from r1exp.runner.disk_space import disk_space, refuse_full_disk
from r1exp.step.full_disk import is_full, release, reserve

Compose = Callable[..., Experiment]
SFT = ["stage=sft", "tracking=none", "evaluation.before=false", "evaluation.after=false"]
LINE = [
    *SFT,
    "paths.run=run",
    "max_steps=12",
    "trainer.save_steps=4",
    "stage.rows_per_step=4",
    "dataset.num_train=40",
]
MB = 10**6

# The disk becomes full after the first checkpoint: everything that is left goes into a file.
SCRIPT = """
mount -t tmpfs -o size=12m none "$1" && cd "$1" || exit 99
shift
"$@"; echo "refused: $?"; ls run/steps/*/checkpoints 2>/dev/null
mount -o remount,size=40m .
"$@" & run=$!
until [ -e run/steps/01-sft/checkpoints/checkpoint-4/complete.json ] || ! kill -0 $run; do sleep 0.05; done
head -c 100m /dev/zero > filler
wait $run; echo "full: $?"
cat run/steps/01-sft/status.json; ls run/steps/01-sft/checkpoints
rm filler
"$@"; echo "with room: $?"
cat run/steps/01-sft/status.json; find . -name '.*' -type f -o -name reserve.bin
"""


@pytest.fixture
def step(compose_line: Compose) -> Callable[..., PlanStep]:
    """Return a function that plans the only step of a command line."""

    def plan(*overrides: str) -> PlanStep:
        (step,) = planned_steps(compose_line(*SFT, *overrides))
        return step

    return plan


@pytest.mark.parametrize(
    ("overrides", "checkpoint", "num_kept", "model"),
    [
        # 590,464 parameters of 4 bytes: weights and two moments in a checkpoint, weights in the model.
        pytest.param([], 7.1, 2, 2.4, id="all weights"),
        pytest.param(["trainer.save_total_limit=1"], 7.1, 1, 2.4, id="one checkpoint"),
        pytest.param(["max_steps=50"], 7.1, 1, 2.4, id="saved once"),
        pytest.param(["max_steps=4", "trainer.save_steps=0.5"], 7.1, 2, 2.4, id="saved at shares of the run"),
        pytest.param(["model.lora.r=4"], 0.3, 2, 2.4, id="adapters"),
    ],
)
def test_the_space_of_a_step_follows_from_its_model_and_its_checkpoints(
    overrides: list[str], checkpoint: float, num_kept: int, model: float, step: Callable[..., PlanStep]
) -> None:
    need = disk_space(step(*overrides))
    assert (round(need.checkpoint / MB, 1), need.num_kept) == (checkpoint, num_kept)
    assert round(need.model / MB, 1) == model
    assert need.total >= num_kept * need.checkpoint + need.model


def test_a_step_that_does_not_fit_is_refused_with_the_space_needed_and_the_space_there(
    step: Callable[..., PlanStep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 20 * MB

    monkeypatch.setattr(disk_space_module.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(Refused, match=r"needs about 23\.\d MB .*20\.0 MB are free; free some"):
        refuse_full_disk(step(), tmp_path)
    saved = tmp_path / "checkpoints" / "checkpoint-50" / "optimizer.pt"
    saved.parent.mkdir(parents=True)
    saved.write_bytes(os.urandom(7 * MB))
    refuse_full_disk(step(), tmp_path)  # what the step has already needs no further space


def test_a_full_disk_is_found_by_an_error_of_a_library_and_by_what_caused_it(tmp_path: Path) -> None:
    assert not is_full(tmp_path, RuntimeError("unexpected pos"))
    assert is_full(tmp_path, RuntimeError("I/O error: No space left on device (os error 28)"))
    error = RuntimeError("cannot save")
    error.__cause__ = OSError(28, os.strerror(28))
    assert is_full(tmp_path, error)
    reserve(tmp_path)
    release(tmp_path)
    assert not list(tmp_path.iterdir())


def _can_mount() -> bool:
    test = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(test, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_a_step_on_a_disk_that_becomes_full_goes_on_when_there_is_room(tmp_path: Path) -> None:
    if not _can_mount():
        pytest.skip("file systems cannot be mounted here")
    command = ["unshare", "-m", "sh", "-c", SCRIPT, "sh", str(tmp_path), sys.executable, "-m", "r1exp", *LINE]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    shown = ended.stdout + ended.stderr
    assert "Traceback" not in shown, shown
    refused, full = ended.stdout.split("refused: 2\n")[1].split("full: 3\n")
    failed, done = full.split("with room: 0\n")
    assert "checkpoint" not in refused
    assert '"state": "failed"' in failed and "no space left on the disk" in failed
    assert "checkpoint-4" in failed
    assert "starts from checkpoint-" in ended.stderr
    assert '"state": "done"' in done and done.rstrip().endswith("}"), done
