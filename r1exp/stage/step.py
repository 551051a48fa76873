"""The frozen step file: all that a worker is told. Ranks read it; they never compose.

<run>/steps/<nn>-<name>/{step.json, status.json, log.txt, metrics.jsonl, checkpoints/, artifact/}
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from r1exp.files import write_text
from r1exp.settings import Name, Settings
from r1exp.stage.config import StepConfig

_FILE = "step.json"


class Step(Settings):
    """One step of one run, decided in full."""

    name: Name
    index: NonNegativeInt  # place in the run, from 1
    run_id: Name  # shared by all steps of a run; the W&B group
    run_name: Name
    key: Name  # hash of what decides the result
    data: Name  # fingerprint of its data, or the key of the step that makes it
    config: StepConfig
    device: Literal["cpu", "cuda"]
    world_size: PositiveInt  # ranks that must be there
    trainer_args: dict[str, Any]  # for the trainer's dataclass, complete but for output_dir
    model_path: Name  # hub id or folder the model is loaded from
    server: Name | None = None  # base URL of the vLLM server that was started for it

    def write(self, folder: Path) -> None:
        """Write the step into its folder."""
        write_text(folder / _FILE, self.model_dump_json(indent=2) + "\n")


def read_step(folder: Path) -> Step:
    """Return the step of a folder."""
    return Step.model_validate_json((folder / _FILE).read_text(encoding="utf-8"), strict=True)


def folder_name(index: int, name: str) -> str:
    """Return the name of a step's folder below `<run>/steps/`."""
    return f"{index:02d}-{name}"
