"""Fixtures that the tests of several folders share."""

import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from r1exp.config.compose import session
from r1exp.config.experiment import Experiment, experiment_from
from r1exp.plan.steps import planned_steps
from r1exp.stage.step import Step

# trackio reads it when it is imported, which TRL does.
os.environ.setdefault("TRACKIO_DIR", tempfile.mkdtemp(prefix="r1exp-trackio-"))

GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k"  # optional: next to the checkout


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fast tests first, and those that need optional parts last."""
    items.sort(key=lambda item: [bool(item.get_closest_marker(name)) for name in ("integration", "slow")])


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Restore the environment variables that a test, or a library in its process (vLLM, accelerate), changes."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def compose_line() -> Iterator[Callable[..., Experiment]]:
    """Return a function that composes the overrides of a command line."""
    with session():
        yield lambda *overrides: experiment_from(overrides)


@pytest.fixture
def frozen(compose_line: Callable[..., Experiment]) -> Callable[..., Step]:
    """Return a function that returns the only step of a command line, as its ranks read it."""

    def freeze(*overrides: str, model: str = "unused") -> Step:
        (step,) = planned_steps(compose_line(*overrides, "evaluation.before=false", "evaluation.after=false"))
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
    """Yield the records of a W&B file: LevelDB's log format after a 7-byte header, for which the wheel has no reader.

    Blocks of 32 KiB contain pieces of records, each with a header of checksum (4 bytes), length (2 bytes) and
    kind (1 byte; 1: whole record; 2, 3, 4: first, middle, last piece).
    """
    data = file.read_bytes()
    assert data[:4] == b":W&B"
    offset, record = _HEADER, b""
    while offset + _HEADER <= len(data):
        left_in_block = _BLOCK - offset % _BLOCK
        if left_in_block < _HEADER:  # padding
            offset += left_in_block
            continue
        _, length, kind = struct.unpack("<IHB", data[offset : offset + _HEADER])
        record += data[offset + _HEADER : offset + _HEADER + length]
        offset += _HEADER + length
        if kind in (1, 4):
            yield Record.FromString(record)
            record = b""
