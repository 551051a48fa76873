"""What several rooms' tests share."""

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from r1exp.config.compose import session
from r1exp.config.experiment import Experiment, experiment_from
from r1exp.plan.steps import planned_steps
from r1exp.stage.step import Step

GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k"  # beside a contributor's checkout, or absent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the fast tests run first, and those that need real parts last."""
    items.sort(key=lambda item: [bool(item.get_closest_marker(name)) for name in ("integration", "slow")])


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Take back what a test, or a library in its process (vLLM, accelerate), writes into the environment."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def compose_line() -> Iterator[Callable[..., Experiment]]:
    """Return a function that composes the words of a command line."""
    with session():
        yield lambda *words: experiment_from(words)


@pytest.fixture
def frozen(compose_line: Callable[..., Experiment]) -> Callable[..., Step]:
    """Return a function that freezes the one step of a command line."""

    def freeze(*words: str, model: str = "unused") -> Step:
        (step,) = planned_steps(compose_line(*words, "evaluation.before=false", "evaluation.after=false"))
        return Step(
            name=step.name, index=1, run_id="run", run_name="run", key=step.key, data=step.data, config=step.config,
            device="cpu", world_size=1, trainer_args=step.trainer_args, model_path=model,
        )  # fmt: skip

    return freeze


_HEADER, _BLOCK = 7, 32768  # bytes
_FILES = "wandb/offline-run-*/*.wandb"


@pytest.fixture
def wandb_records() -> Callable[[Path], list[Record]]:
    """Return a function that reads the offline files in a folder, oldest first."""
    return lambda folder: [record for file in sorted(folder.glob(_FILES)) for record in _records(file)]


def _records(file: Path) -> Iterator[Record]:
    """Yield what W&B wrote: LevelDB's log format behind a 7-byte header, for which the wheel has no reader.

    Blocks of 32 KiB hold pieces of records, each with a header of checksum (4 bytes), length (2) and
    kind (1: whole; 2, 3, 4: first, middle, last piece).
    """
    data = file.read_bytes()
    assert data[:4] == b":W&B"
    place, record = _HEADER, b""
    while place + _HEADER <= len(data):
        left_in_block = _BLOCK - place % _BLOCK
        if left_in_block < _HEADER:  # padding
            place += left_in_block
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + _HEADER])
        record += data[place + _HEADER : place + _HEADER + length]
        place += _HEADER + length
        if kind in (1, 4):
            yield Record.FromString(record)
            record = b""
