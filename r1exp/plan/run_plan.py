"""Reads and writes `<run>/plan.json`, the composed plan from which a run is started or continued.

Changes of conf/ after a job was submitted therefore do not affect the job.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt, ValidationError

from r1exp.config.experiment import RunConfig
from r1exp.errors import Refused
from r1exp.files import hash_of, write_text
from r1exp.launcher.base import Device
from r1exp.paths import RunPaths, StepPaths
from r1exp.plan.batch import Batch, RlBatch
from r1exp.serving.step_server import ServedStep
from r1exp.settings import Name, Settings
from r1exp.stage.config import StepConfig
from r1exp.step.fork import ForkOrigin
from r1exp.step.status import read_status

LEFT_OUT = "left_out"  # state of a step outside of --from, --until and --only that is not finished


class PlanStep(Settings):
    """One step of a plan."""

    index: PositiveInt
    name: Name
    label: Name  # part of metric names: pre_sft, grpo, ...
    config: StepConfig
    model_from: Name  # `base` or the name of an earlier step
    key: Name  # hash of what determines the result, but for its last digits
    data: Name  # content hash of its data, or key of the step that makes them
    reads: tuple[Name, ...]  # the earlier steps whose artifacts it reads
    numerics: dict[str, int | bool | str | None]  # what shifts the last digits of its result
    variant: Name  # second part of its key: a hash of its numerics and those of the steps that it reads
    inputs: dict[str, str]  # what it reads from outside the run -> content hash
    device: Device
    num_problems: int | None  # problems of the split it reads; None: not known before the download
    # None for a step that does not train. The subclass comes first: the base class would drop some of its values.
    batch: Annotated[RlBatch | Batch | None, Field(union_mode="left_to_right")]
    # Exactly what the trainer's dataclass receives, except for paths and addresses.
    trainer_args: dict[str, Any]
    # false: outside of --from, --until and --only; taken where it is finished, and never executed
    runs: bool = True
    fork: ForkOrigin | None = None  # the checkpoint of another run that it begins with

    def paths(self, run: Path) -> StepPaths:
        """Return the paths of the step in a run directory."""
        return RunPaths(run).step(self.index, self.name)

    def served(self) -> ServedStep | None:
        """Return what the step's vLLM server needs to know; None if the step needs no server."""
        return self.config.served(self.device, self.key)

    @property
    def slot(self) -> str:
        """Both parts of the key, which name the step in the store."""
        return f"{self.key}-{self.variant}"

    @property
    def kind(self) -> str:
        """The kind of stage."""
        assert self.config.stage is not None
        return self.config.stage.kind


class RunPlan(Settings):
    """The plan of one run."""

    name: Name
    overrides: tuple[str, ...]  # as typed
    focus: Name
    config: RunConfig  # settings of the run as a whole: tracking, launcher, paths
    working_directory: Name  # folder in which the command was typed; relative paths start there
    steps: tuple[PlanStep, ...]
    is_compared: bool = False  # a member of a sweep: nothing with other numerics may be reused

    def variant(self, step: PlanStep, run: Path) -> str:
        """Return the second part of a step's key in a run; an earlier step may be reused with other numerics than planned.

        Args:
            step: A step of this plan.
            run: The run directory.
        """
        known = []
        for name in step.reads:
            earlier = self.step_named(name)
            status = read_status(earlier.paths(run).folder)
            done = None if status is None else status.variant
            known.append(done or self.variant(earlier, run))
        return variant_of(step.numerics, known)

    def slot(self, step: PlanStep, run: Path) -> str:
        """Return both parts of a step's key, which name it in the store."""
        return f"{step.key}-{self.variant(step, run)}"

    def readers_of(self, name: str) -> list[str]:
        """Return the steps that may run and read the artifact of step `name`."""
        return [step.name for step in self.steps if step.runs and name in step.reads]

    def write(self, run: Path) -> None:
        """Write the plan into its run directory."""
        write_text(RunPaths(run).plan, self.model_dump_json(indent=2) + "\n")

    def step_named(self, name: str) -> PlanStep:
        """Return a step by its name."""
        for step in self.steps:
            if step.name == name:
                return step
        raise Refused(f"no step {name!r}; the run has {[step.name for step in self.steps]}")


def variant_of(numerics: Mapping[str, Any], read: Sequence[str]) -> str:
    """Return the second part of a step's key.

    Args:
        numerics: What shifts the last digits of its result.
        read: The second parts of the keys of the steps that it reads.
    """
    return hash_of([dict(numerics), list(read)])[:8]


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return how the numerics of a step differ from the planned ones."""
    found = [
        f"{name} {there.get(name)} there, {value} here"
        for name, value in here.items()
        if there.get(name) != value
    ]
    return "; ".join(found) or "of a step that it reads"


def has_plan(run: Path) -> bool:
    """Whether `run` is the directory of a run with a plan."""
    try:
        return RunPaths(run).plan.is_file()
    except OSError:  # a folder of another user
        return False


def read_plan(run: Path) -> RunPlan:
    """Return the plan of a run directory.

    Raises:
        Refused: another version of r1exp wrote it, it is damaged, or it names code that is not installed here.
    """
    return read_plan_file(RunPaths(run).plan)


def read_plan_file(path: Path) -> RunPlan:
    """Return the plan in a file, as `read_plan` does."""
    try:
        return RunPlan.model_validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "value_error":  # for example a reward whose package is not installed here
            message = str(first["msg"]).removeprefix("Value error, ")
            raise Refused(f"{path} cannot be used here: {place}: {message}") from error
        raise Refused(
            f"{path} was not written by this version of r1exp ({place}: {first['msg']}); start the run again with its "
            "command, which is in manifest.json"
        ) from error
