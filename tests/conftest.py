"""Fixtures that the tests of several folders share."""

import gc
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

TAKE_MINUTES = {
    "test_matrix.py",
    "test_memory_peak.py",
    "test_pipelines.py",
    "test_slurm.py",
    "test_run.py",
    "test_vllm_server.py",
    "test_vllm_colocate.py",
    "test_doors.py",
}


def pytest_configure(config: pytest.Config) -> None:
    """Give each worker of pytest-xdist its own cores: PyTorch's threads lose much time where they share them."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        share = cores[int(worker[2:]) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]
        os.sched_setaffinity(0, share or cores)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fast tests first; of the others the files that take minutes, so that workers end at about the same time."""
    items.sort(key=lambda item: (is_slow(item), item.path.name not in TAKE_MINUTES, is_integration(item)))


def is_integration(item: pytest.Item) -> bool:
    """Return whether the test needs optional parts."""
    return item.get_closest_marker("integration") is not None


def is_slow(item: pytest.Item) -> bool:
    """Return whether `make test-slow` runs the test."""
    return item.get_closest_marker("slow") is not None or is_integration(item)


def pytest_collection_finish() -> None:
    """Exclude what is imported by now from garbage collection: every trainer runs one, which took 0.4 s."""
    gc.freeze()


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Restore the environment variables that a test, or a library in its process (vLLM, accelerate), changes."""
    with restored_environment():
        yield


@pytest.fixture(scope="module", autouse=True)
def own_environment_of_a_file() -> Iterator[None]:
    """Restore what the fixtures of a file change, such as the port that vLLM's engine writes into the environment."""
    with restored_environment():
        yield


@contextmanager
def restored_environment() -> Iterator[None]:
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
        alone = [] if any(text.startswith("launcher=") for text in overrides) else ["launcher=local"]
        line = [*alone, *overrides, "evaluation.before=false", "evaluation.after=false"]
        (step,) = planned_steps(compose_line(*line))
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
