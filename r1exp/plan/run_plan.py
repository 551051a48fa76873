"""A plan that needs no composing any more: `<run>/plan.json`, what a run reads to be carried out or gone on with.

Whoever edits conf/ after a job was submitted changes nothing about the job.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt

from r1exp.config.experiment import Composed
from r1exp.errors import Refused
from r1exp.files import write_text
from r1exp.launcher.command import Device
from r1exp.plan.batch import Batch, RlBatch
from r1exp.settings import Name, Settings
from r1exp.stage.config import StepConfig

_FILE = "plan.json"


class FrozenStep(Settings):
    """One step as it will be run."""

    index: PositiveInt
    name: Name
    label: Name  # in the names of metrics: pre_sft, grpo, ...
    config: StepConfig
    model_from: Name  # `base` or the name of an earlier step
    key: Name  # hash of what decides the result
    data: Name  # content hash of its data, or the key of the step that makes it
    device: Device
    num_problems: int | None  # of the split it reads; None: not known before the download
    # Of a step that trains. The wider class first: the other would take its values and forget some.
    batch: Annotated[RlBatch | Batch | None, Field(union_mode="left_to_right")]
    trainer_args: dict[str, Any]

    @property
    def kind(self) -> str:
        """The kind of stage."""
        assert self.config.stage is not None
        return self.config.stage.kind


class FrozenPlan(Settings):
    """One run as it will be run."""

    name: Name
    words: tuple[str, ...]  # as typed
    focus: Name
    top: Composed  # what belongs to the run as a whole: tracking, launcher, paths
    workplace: Name  # folder the command was typed in; relative paths count from there
    steps: tuple[FrozenStep, ...]

    def write(self, run: Path) -> None:
        """Write the plan into its run directory."""
        write_text(run / _FILE, self.model_dump_json(indent=2) + "\n")

    def step_named(self, name: str) -> FrozenStep:
        """Return a step by its name."""
        for step in self.steps:
            if step.name == name:
                return step
        raise Refused(f"no step {name!r}; the run has {[step.name for step in self.steps]}")


def has_plan(run: Path) -> bool:
    """Whether `run` is the directory of a run that got as far as its plan."""
    return (run / _FILE).is_file()


def read_plan(run: Path) -> FrozenPlan:
    """Return the plan of a run directory."""
    return FrozenPlan.model_validate_json((run / _FILE).read_text(encoding="utf-8"), strict=True)
