"""Which checkpoints of a step are whole? Those that carry our mark, written after everything else."""

import shutil
from pathlib import Path

FOLDER = "checkpoints"
MARK = "complete.json"


def checkpoints(step_folder: Path) -> list[Path]:
    """Return the complete checkpoints of a step, oldest first."""
    found = [path.parent for path in (step_folder / FOLDER).glob(f"checkpoint-*/{MARK}")]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def last_checkpoint(step_folder: Path) -> Path | None:
    """Return the newest complete checkpoint, or None."""
    found = checkpoints(step_folder)
    return found[-1] if found else None


def remove_incomplete(step_folder: Path) -> None:
    """Delete checkpoints that a crash left half-written."""
    for path in (step_folder / FOLDER).glob("checkpoint-*"):
        if not (path / MARK).exists():
            shutil.rmtree(path)
