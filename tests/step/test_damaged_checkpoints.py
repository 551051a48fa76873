"""Damages real checkpoints of two ranks, under DDP, ZeRO-2 and FSDP2: the one before is taken, and the result is the same."""

import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.files import hash_of_folder
from r1exp.step.checkpoints import checkpoints, damage_of, last_checkpoint, pass_over_damaged
from r1exp.step.status import Status, read_status

LINE = [
    "stage=sft", "tracking=none", "evaluation.before=false", "evaluation.after=false", "max_steps=6", "trainer.save_steps=2",
    "trainer.save_total_limit=3", "trainer.warmup_steps=0", "dataset.num_train=20", "stage.rows_per_step=8",
    "model.shape.hidden_size=32", "model.shape.num_hidden_layers=1", "model.shape.intermediate_size=64",
    "launcher.threads_per_process=1", "launcher.device=cpu", "launcher.num_processes=2", "paths.run=run", "paths.store=store",
]  # fmt: skip

pytestmark = pytest.mark.slow


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


HARMS: list[tuple[str, Callable[[Path], None]]] = [
    ("trainer_state.json", truncate),
    ("health.json", Path.unlink),
    ("rng_state_0.pth", Path.unlink),
    ("rng_state_1.pth", Path.unlink),
    ("memory-1-of-2.pt", truncate),
    ("complete.json", truncate),
]
WHOLE: list[tuple[str, Callable[[Path], None]]] = [
    ("model.safetensors", truncate),
    ("model.safetensors", flip),
]
WEIGHTS: dict[str, list[tuple[str, Callable[[Path], None]]]] = {
    "ddp": [*WHOLE, ("optimizer.pt", truncate), ("scheduler.pt", Path.unlink)],
    "fsdp2": [
        ("pytorch_model_fsdp_0/__0_0.distcp", truncate),
        ("pytorch_model_fsdp_0/__1_0.distcp", flip),
        ("pytorch_model_fsdp_0/.metadata", Path.unlink),
        ("optimizer_0/__1_0.distcp", truncate),
        ("scheduler.pt", Path.unlink),
    ],
    "zero2": [
        *WHOLE,
        ("global_step6/*zero_pp_rank_0*optim_states.pt", truncate),
        ("global_step6/*zero_pp_rank_1*optim_states.pt", truncate),
        ("latest", Path.unlink),
    ],
}


@pytest.fixture(scope="module", params=["ddp", "zero2", "fsdp2"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Train a tiny model with two ranks in the current folder; return the launcher."""
    launcher = str(request.param)
    if launcher == "zero2" and find_spec("deepspeed") is None:
        pytest.skip("needs deepspeed: pip install 'r1exp[deepspeed]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp(launcher))
        assert main([*LINE, f"launcher={launcher}"]) == 0
        yield launcher


def harmed(name: str, harm: Callable[[Path], None], folder: Path) -> Path:
    """Copy the trained step, damage a file of its newest checkpoint, and return the copy."""
    step = folder / "step"
    shutil.copytree(Path("run/steps/01-sft/checkpoints"), step / "checkpoints")
    (file,) = (step / "checkpoints" / "checkpoint-6").glob(name)
    harm(file)
    return step


def test_any_damaged_file_makes_the_checkpoint_before_the_last(trained: str, tmp_path: Path) -> None:
    assert [damage_of(found) for found in checkpoints(Path("run/steps/01-sft"))] == [None] * 3
    harms = [*HARMS, *WEIGHTS[trained]]
    for number, (name, harm) in enumerate(harms):
        step = harmed(name, harm, tmp_path / str(number))
        (message,) = pass_over_damaged(step)
        assert message.startswith("checkpoint-6 is damaged and passed over: "), name
        last = last_checkpoint(step)
        assert last is not None and last.name == "checkpoint-4", name


def test_a_run_resumed_before_the_damage_ends_as_if_undisturbed(
    trained: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if trained == "zero2":
        pytest.skip("resumed under DDP; the choice of a checkpoint does not depend on the launcher")
    step = Path("run/steps/01-sft")
    undisturbed = hash_of_folder(step / "artifact")
    shutil.rmtree("store/steps")
    Status(state="interrupted").write(step)
    optimizer = {"ddp": "optimizer.pt", "fsdp2": "optimizer_0/__1_0.distcp"}[trained]
    truncate(step / "checkpoints" / "checkpoint-6" / optimizer)
    (step / "checkpoints" / "checkpoint-4" / "rng_state_1.pth").unlink()
    assert main([*LINE, f"launcher={trained}"]) == 0
    told = capsys.readouterr().err
    assert f"checkpoint-6 is damaged and passed over: {optimizer} has" in told
    assert "checkpoint-4 is damaged and passed over: rng_state_1.pth is missing" in told
    assert "starts from checkpoint-2" in told
    status = read_status(step)
    assert status is not None and status.state == "done"
    assert hash_of_folder(step / "artifact") == undisturbed
    assert not list((step / "checkpoints").glob("damaged-*"))
