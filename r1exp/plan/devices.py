"""Says how much memory a device has: of this machine, or of cards that are given to `plan` by name.

    r1exp plan device=h100 devices=8
    r1exp plan device=80GB

Sizes are what the driver of a card reports (nvidia-smi, amd-smi), which is what a program can allocate at most. GB are
powers of 1000 and GiB powers of 1024, as everywhere in `plan`: a card sold as 80 GB has 80 GiB, which are 85.9 GB.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from r1exp.errors import Refused
from r1exp.launcher.base import Device
from r1exp.settings import nearest

_MIB = 1 << 20
# Name -> memory in MiB, as the driver reports it. Source: nvidia-smi of each card; AMD's data sheet of the MI300X (192 GiB).
CARDS = {
    "a10": 23_028,
    "a100-40": 40_960,
    "a100-80": 81_920,
    "b200": 183_359,
    "h100": 81_559,
    "h200": 143_771,
    "l4": 23_034,
    "mi300x": 196_592,
    "rtx4090": 24_564,
}
CPU = "cpu"
_UNITS = {"GB": 10**9, "GIB": 1 << 30, "MB": 10**6, "MIB": _MIB}  # upper case -> bytes
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]+)")
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Hardware:
    """The devices that a plan is made for."""

    name: str  # for example `h100`, or `this CPU`
    device: Device
    memory: int | None  # bytes of one device, or of the machine's memory for a CPU; None: not known
    number: int | None = None  # of devices; None: as many as there are processes
    is_given: bool = False  # typed, and not of this machine


def given_hardware(name: str | None, number: str | None) -> Hardware | None:
    """Return what `device=NAME devices=NUMBER` describes; None where neither is typed.

    Raises:
        Refused: an unknown card, or a number that is none.
    """
    if name is None and number is None:
        return None
    if name is None:
        raise Refused(f"devices={number} says how many, and nothing says which; add device=h100, for example")
    count = None if number is None else _positive(number)
    key = name.lower()
    if key == CPU:
        if count is not None:
            raise Refused(
                f"devices={number} counts cards, and device=cpu is this machine; type launcher.num_processes={number}"
            )
        return hardware_here("cpu")
    if key in CARDS:
        return Hardware(key, "cuda", CARDS[key] * _MIB, count, is_given=True)
    size = _SIZE.fullmatch(name)
    if size is not None and size[2].upper() in _UNITS:
        return Hardware(
            f"a {name} card", "cuda", int(float(size[1]) * _UNITS[size[2].upper()]), count, is_given=True
        )
    close = nearest(key, CARDS)
    hint = f" Did you mean device={close[0]}?" if close else ""
    raise Refused(
        f"device={name}: no such card.{hint} Known are {', '.join([*CARDS, CPU])}; of another card give the memory: "
        "device=48GB"
    )


def _positive(number: str) -> int:
    if not number.isascii() or not number.isdigit() or int(number) == 0:
        raise Refused(f"devices={number}: give the number of devices, for example devices=8")
    return int(number)


_given: ContextVar[Hardware | None] = ContextVar("given hardware", default=None)


@contextmanager
def planning_for(hardware: Hardware | None) -> Iterator[None]:
    """Return a context in which `auto` chooses for the given devices; None: for those of this machine."""
    token = _given.set(hardware)
    try:
        yield
    finally:
        _given.reset(token)


def hardware_for(device: Device) -> Hardware:
    """Return the devices that a plan is made for."""
    return _given.get() or hardware_here(device)


@cache
def compute_capability() -> float | None:
    """Return the least compute capability of the GPUs that nvidia-smi lists; None: there are none."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10.0, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return min((float(line) for line in answer.stdout.split()), default=None)


@cache
def hardware_here(device: Device) -> Hardware:
    """Return the devices of this machine."""
    if device == "cpu":
        return Hardware("this CPU", "cpu", _memory_of_this_machine())
    cards = _nvidia_cards()
    if not cards:
        return Hardware("GPUs that this machine does not show", "cuda", None)
    name = cards[0][0]
    return Hardware(name, "cuda", min(memory for _, memory in cards), len(cards))


def _nvidia_cards() -> Sequence[tuple[str, int]]:
    """Return the name and the bytes of memory of each GPU that nvidia-smi lists."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10.0, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [line.rpartition(",") for line in answer.stdout.splitlines()]
    return [(name.strip(), int(memory) * _MIB) for name, _, memory in rows if memory.strip().isdigit()]


def _memory_of_this_machine() -> int:
    """Return the bytes of memory that this process may use, which a container may limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [
        Path(name).read_text(encoding="ascii").strip() for name in _CGROUP_LIMITS if Path(name).is_file()
    ]
    return min([total, *(int(limit) for limit in limits if limit.isdigit())])
