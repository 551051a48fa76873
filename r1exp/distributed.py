"""Reads which rank this process is, and deals items out to ranks. Torch-free.

torchrun and accelerate set RANK, WORLD_SIZE and LOCAL_WORLD_SIZE; without them there is one process.
"""

import os
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, Literal, TypeVar

Item = TypeVar("Item")


def rank() -> int:
    """Return the index of this process among all ranks, from 0."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of ranks."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world_size() -> int:
    """Return the number of ranks on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process is rank 0, which writes files."""
    return rank() == 0


def shard(items: Sequence[Item], index: int, num_shards: int) -> list[Item]:
    """Return every `num_shards`-th item, from the item `index` on."""
    return list(items[index::num_shards])


def interleave(shards: Sequence[Sequence[Item]]) -> list[Item]:
    """Return the items in the order they had before `shard` dealt them out."""
    missing: Any = object()
    rows = chain.from_iterable(zip_longest(*shards, fillvalue=missing))
    return [item for item in rows if item is not missing]


def checkpoint_format() -> Literal["plain", "deepspeed", "fsdp2"]:
    """Return the format of the checkpoints that the trainer of this process writes and reads."""
    return "fsdp2" if uses_fsdp() else "deepspeed" if uses_deepspeed() else "plain"


def uses_fsdp() -> bool:
    """Whether accelerate's launcher configured FSDP for this process."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


def uses_deepspeed() -> bool:
    """Whether accelerate's launcher configured DeepSpeed for this process."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
