"""Notes the most memory that rank 0 of a step had at once, for the report."""

import re
import sys
from pathlib import Path

from r1exp.files import write_json
from r1exp.paths import StepPaths


def note_memory(folder: Path) -> None:
    """Write the peak of this process in GiB: `host_gib`, and `device_gib` where it computed on a GPU."""
    found = {}
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None  # Linux
    if peak is not None:
        found["host_gib"] = round(int(peak[1]) / 2**20, 3)
    torch = sys.modules.get("torch")  # only asked where the step has used it
    if torch is not None and torch.cuda.is_initialized():
        found["device_gib"] = round(torch.cuda.max_memory_reserved() / 2**30, 3)
    write_json(StepPaths(folder).memory, found)
