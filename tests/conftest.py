"""What several rooms' tests share."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from r1exp.config.compose import session
from r1exp.config.experiment import Experiment, experiment_from

GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k"  # beside a contributor's checkout, or absent


@pytest.fixture
def compose_line() -> Iterator[Callable[..., Experiment]]:
    """Return a function that composes the words of a command line."""
    with session():
        yield lambda *words: experiment_from(words)


_HEADER, _BLOCK = 7, 32768  # bytes


@pytest.fixture
def wandb_records() -> Callable[[Path], list[Record]]:
    """Return a function that reads the one offline file in a folder."""
    return lambda folder: list(_records(folder))


def _records(folder: Path) -> Iterator[Record]:
    """Yield what W&B wrote: LevelDB's log format behind a 7-byte header, for which the wheel has no reader.

    Blocks of 32 KiB hold pieces of records, each with a header of checksum (4 bytes), length (2) and
    kind (1: whole; 2, 3, 4: first, middle, last piece).
    """
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
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
