"""Reads and writes `step.json`, the settings of a step. Ranks read it instead of composing the configuration."""

from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt

from r1exp.files import read_json_object, write_text
from r1exp.paths import StepPaths
from r1exp.serving.step_server import ServedStep
from r1exp.settings import Name, Settings
from r1exp.stage.config import StepConfig
from r1exp.step.fork import ForkOrigin


class Step(Settings):
    """One step of one run, with every value resolved."""

    name: Name
    index: PositiveInt  # position in the run, from 1
    run_id: Name  # name of the run directory
    run_name: Name
    run_group: Name | None = None  # shared in trackers by a run, or by all members of a sweep; None: run_id
    run_token: Name | None = None  # differs between any two run directories; None: run_id
    key: Name  # hash of what determines the result
    data: Name  # fingerprint of its data, or key of the step that makes them
    config: StepConfig
    device: Literal["cpu", "cuda"]
    world_size: PositiveInt  # number of ranks
    trainer_args: dict[str, Any]  # for the trainer's dataclass, complete except for output_dir
    model_path: Name  # hub id or folder from which the model is loaded
    fork: ForkOrigin | None = None  # the checkpoint that it begins with; None: it begins with its model
    server: Name | None = None  # base URL of the vLLM server that was started for the step

    def deciding_settings(self) -> dict[str, Any]:
        """Return the settings that decide the result, and those of the data set, whose content counts in the key."""
        return self.config.deciding_settings() | {"dataset": self.config.dataset.model_dump(mode="json")}

    def served(self) -> ServedStep | None:
        """Return what the step's vLLM server needs to know; None if the step needs no server."""
        return self.config.served(self.device, self.key)

    def write(self, folder: Path) -> None:
        """Write the step into its folder."""
        write_text(StepPaths(folder).step, self.model_dump_json(indent=2) + "\n")


def read_step(folder: Path) -> Step:
    """Return the step whose folder is `folder`."""
    return Step.model_validate_json(StepPaths(folder).step.read_text(encoding="utf-8"), strict=True)


def run_of(folder: Path) -> str:
    """Return the name of the run that executed the step in `folder`; SWEEP/N for a member of a sweep."""
    step = read_json_object(StepPaths(folder).step)
    run = str(step.get("run_id", folder.name))
    group = str(step.get("run_group") or run)
    return run if run == group else f"{group}/{run}"
