"""The settings of a step as the ranks read them, from `step.json`. Ranks never compose."""

from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt

from r1exp.files import write_text
from r1exp.paths import StepPaths
from r1exp.serving.step_server import ServedStep
from r1exp.settings import Name, Settings
from r1exp.stage.config import StepConfig


class Step(Settings):
    """One step of one run, with every value resolved."""

    name: Name
    index: PositiveInt  # place in the run, from 1
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

    def deciding_settings(self) -> dict[str, Any]:
        """Return the settings that decide the result."""
        return self.config.deciding_settings()

    def served(self) -> ServedStep | None:
        """Return the step as its vLLM server sees it; None where it needs no server."""
        return self.config.served(self.device, self.key)

    def write(self, folder: Path) -> None:
        """Write the step into its folder."""
        write_text(StepPaths(folder).step, self.model_dump_json(indent=2) + "\n")


def read_step(folder: Path) -> Step:
    """Return the step of a folder."""
    return Step.model_validate_json(StepPaths(folder).step.read_text(encoding="utf-8"), strict=True)
