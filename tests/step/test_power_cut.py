"""Cuts the power at any moment of a real run: whatever the disk holds then, no torn file is resumed from or reused.

The run trains with `save_total_limit=1`, so that each checkpoint takes the place of the one before.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from r1exp.__main__ import main
from r1exp.files import hash_of_folder, read_json
from r1exp.paths import CheckpointPaths, RunPaths, StepPaths, StorePaths
from r1exp.runner.store import StepStore
from r1exp.stage.step import read_step
from r1exp.step.checkpoints import last_checkpoint, pass_over_damaged, remove_incomplete
from r1exp.step.status import is_changed, read_status
from r1exp.tracking.metrics import MetricsFile
from tests.step.power_cut_disk import MODES, STRACE, Call, Disk, Folder, calls, contents, write

LINE = [
    "stage=sft", "tracking=none", "evaluation.before=false", "evaluation.after=false", "max_steps=6", "trainer.save_steps=2",
    "trainer.save_total_limit=1", "trainer.warmup_steps=0", "trainer.logging_steps=1", "dataset.num_train=20",
    "stage.rows_per_step=8", "model.shape.hidden_size=32", "model.shape.num_hidden_layers=1",
    "model.shape.intermediate_size=64", "launcher=local", "launcher.device=cpu",
]  # fmt: skip
CHANGES = {"write", "writev", "pwrite64", "ftruncate", "openat", "lseek"}  # also of logs, and of files read
RESUMED = ((0.45, "dropped"), (0.7, "mixed"))  # at which share of the calls the power is cut, and how

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Recorded:
    """A run that was recorded to its end."""

    root: Path
    calls: list[Call]
    artifact: str  # hash of the artifact


def line(root: Path) -> list[str]:
    return [*LINE, f"paths.run={root / 'run'}", f"paths.store={root / 'store'}"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Run the command once under strace."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace: apt-get install strace")
    elsewhere = tmp_path_factory.mktemp(
        "elsewhere"
    )  # calls that name the root are kept, so that it is no working directory
    root = tmp_path_factory.mktemp("root").resolve()
    trace = elsewhere / "trace"
    command = [*STRACE, "-o", str(trace), sys.executable, "-m", "r1exp", *line(root)]
    ended = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)
    if "PTRACE" in ended.stderr:
        pytest.skip(f"strace may not trace here: {ended.stderr.strip()}")
    assert ended.returncode == 0, ended.stderr
    found = list(calls(trace, root))
    trace.unlink()
    return Recorded(root, found, hash_of_folder(root / "run/steps/01-sft/artifact"))


def replayed(recorded: Recorded) -> Iterator[tuple[Disk, Call]]:
    """Yield the disk after each call that changed it."""
    disk = Disk(recorded.root)
    for call in recorded.calls:
        disk.apply(call)
        yield disk, call


def test_the_recording_has_every_write_of_the_run(recorded: Recorded) -> None:
    *_, (disk, _) = replayed(recorded)
    files = [path for path in recorded.root.rglob("*") if path.is_file()]
    assert contents(disk.top) == {str(path.relative_to(recorded.root)): path.read_bytes() for path in files}


class Watch:
    """What the run had written at a moment, with which a state of the disk is compared."""

    def __init__(self) -> None:
        self.whole: dict[str, dict[str, str]] = {}  # name of a checkpoint -> its files and their hashes
        self.durable = 0  # optimizer steps of the newest checkpoint that is on the disk for certain

    def look(self, disk: Disk) -> None:
        """Note the checkpoints that have a mark."""
        place = StepPaths(RunPaths(disk.root / "run").step(1, "sft").folder)
        folder = disk.find(place.checkpoints)
        for name, node in folder.names.items() if isinstance(folder, Folder) else ():
            paths = CheckpointPaths(place.checkpoints / name)
            if isinstance(node, Folder) and paths.mark.name in node.names and name not in self.whole:
                self.whole[name] = {file: _hash(data) for file, data in contents(node).items()}
        kept = contents(disk.after_a_cut("dropped", 0))
        marks = [path for path in kept if path.endswith(f"/{CheckpointPaths(Path()).mark.name}")]
        steps = [CheckpointPaths(Path(path).parent).global_step for path in marks]
        self.durable = max([self.durable, *steps])


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def judge(root: Path, watch: Watch, artifact: str) -> str:
    """Read a state of the disk as a run does that is started again; return which checkpoint it would resume from."""
    run = RunPaths(root / "run")
    for path in (run.manifest, run.plan, run.summary):
        if path.exists():
            read_json(path)
    for entry in StorePaths(root / "store").steps.glob("*"):
        found = StepStore(root / "store").find(entry.name)
        if found is not None and not entry.name.startswith("."):
            status = read_status(found)
            assert status is not None and status.state == "done"
            assert hash_of_folder(StepPaths(found).artifact) == artifact
    step = run.step(1, "sft")
    if not step.folder.is_dir():
        assert watch.durable == 0
        return "nothing"
    if step.step.exists():
        read_step(step.folder)
    status = read_status(step.folder)
    if status is not None and status.state == "done":
        assert not is_changed(step.folder)
        return "done"
    remove_incomplete(step.folder)
    pass_over_damaged(step.folder)
    last = last_checkpoint(step.folder)
    at = 0 if last is None else CheckpointPaths(last).global_step
    assert at >= watch.durable, "a checkpoint that was on the disk is gone"
    if last is not None:
        files = [path for path in last.rglob("*") if path.is_file()]
        assert (
            watch.whole[last.name].items()
            >= {str(path.relative_to(last)): _hash(path.read_bytes()) for path in files}.items()
        )
        rows = MetricsFile(step.metrics).rows()
        assert {row["step"] for row in rows} >= set(range(1, at + 1))
    return f"{at} optimizer steps"


def test_no_state_of_the_disk_leads_to_a_torn_file(recorded: Recorded, tmp_path: Path) -> None:
    watch, seen = Watch(), set()
    for number, (disk, call) in enumerate(replayed(recorded)):
        watch.look(disk)
        if call.name in CHANGES and number % 8:
            continue
        for mode in MODES:
            place = tmp_path / f"{number}-{mode}"
            place.mkdir()
            write(disk.after_a_cut(mode, number), place)
            seen.add(judge(place, watch, recorded.artifact))
            shutil.rmtree(place)
    assert seen == {"nothing", "0 optimizer steps", *(f"{at} optimizer steps" for at in (2, 4, 6)), "done"}


@pytest.mark.parametrize(("share", "mode"), RESUMED)
def test_a_run_that_is_started_again_after_a_cut_ends_like_an_uninterrupted_one(
    recorded: Recorded, share: float, mode: str
) -> None:
    changed = [number for number, call in enumerate(recorded.calls) if call.name == "fsync"]
    last = changed[int(share * len(changed))]
    disk = Disk(recorded.root)
    for call in recorded.calls[: last + 1]:
        disk.apply(call)
    shutil.rmtree(recorded.root)
    recorded.root.mkdir()
    write(disk.after_a_cut(mode, last), recorded.root)
    assert main(line(recorded.root)) == 0
    step = recorded.root / "run/steps/01-sft"
    assert hash_of_folder(step / "artifact") == recorded.artifact
    assert not [path.name for path in step.iterdir() if path.name.startswith(".")]
