"""Remembers in which folders a step was executed, so that a later run goes on with its checkpoints.

<store>/leases/<key>.where   a JSON list of folders, newest last
"""

import json
import os
from pathlib import Path

from r1exp.files import write_text

_MOST = 16  # folders that are remembered


def executions(note: Path) -> list[Path]:
    """Return the folders in which a step was executed, newest last, as far as they can be read here.

    Args:
        note: The file that names them (`StorePaths.working_directory`).
    """
    try:
        text = note.read_text(encoding="utf-8")
        names = json.loads(text) if text.startswith("[") else [text]  # earlier versions wrote one folder
    except (OSError, ValueError):
        return []
    return [Path(name) for name in names if os.access(name, os.R_OK | os.X_OK)]


def note_execution(note: Path, folder: Path) -> None:
    """Write that a step is executed in `folder`. Needs the lease of the step."""
    own = folder.resolve()
    known = [str(place) for place in executions(note) if place != own]
    write_text(note, json.dumps([*known, str(own)][-_MOST:]) + "\n")
