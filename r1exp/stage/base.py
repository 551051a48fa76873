"""The base class of stages (kinds of step). A stage states what it needs, so that no other module tests its type.

A stage consists of frozen settings and the import path of the function that does its work. Torch-free.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

from r1exp.algorithm.base import Algorithm, Rows
from r1exp.dataset.base import Dataset, Split
from r1exp.dataset.order import ordered
from r1exp.dataset.validation import training_problems
from r1exp.errors import Refused
from r1exp.model.workload import Load
from r1exp.paths import ARTIFACT, ArtifactPaths
from r1exp.records import Problem
from r1exp.settings import Settings
from r1exp.stage.recent import Recent
from r1exp.stage.step_settings import StepSettings

Config = TypeVar("Config", bound=StepSettings)
ArtifactKind = Literal["model", "reward_model", "dataset", "scores"]
TRAINING_FIELDS = frozenset({"learning_rate", "max_steps", "trainer"})
# What every training stage reads. `max_steps` counts as the number of optimizer steps, `health` as
# the rules that can stop a step (StepConfig.deciding_settings). A field that is left out where it is not set needs no value.
_MODEL_READS = frozenset(
    {"model.dtype", "model.quantization", "model.trust_remote_code", "model.chat_template_kwargs"}
)
TRAINING_READS = _MODEL_READS | {"seed", "learning_rate", "trainer", "model.compute_dtype", "model.lora"}
# What every stage reads that generates completions without training.
GENERATION_READS = _MODEL_READS | {"seed", "prompt", "rollout"}
# Top-level settings that only some stages and algorithms read; each lists its own in `fields`.
STAGE_FIELDS = ("algorithm", "rewards", *sorted(TRAINING_FIELDS), "beta", "num_generations", "temperature")

_COUNTS: Recent[int] = Recent(8)  # problems without those kept for evaluations during training


class Stage(Settings):
    """A kind of step. To add one, write a subclass, the function that does its work and a YAML file, and add a line to
    the menu."""

    kind: str

    work: ClassVar[str]  # import path of a function (Step, folder) -> id of the tracked run, or None
    makes: ClassVar[ArtifactKind]  # kind of its artifact
    fields: ClassVar[frozenset[str]] = frozenset()  # the STAGE_FIELDS that this stage reads
    may_read: ClassVar[frozenset[str]] = frozenset()  # further ones, which need not be given
    # The settings that decide its result, as dotted keys; those of its algorithm come on top. None: all settings of a step.
    reads: ClassVar[frozenset[str] | None] = None
    trains: ClassVar[bool] = False  # runs optimizer steps
    generates: ClassVar[bool] = False  # needs completions of the step's rollout
    runs_algorithm: ClassVar[bool] = False  # also reads the fields of its algorithm
    reads_pairs: ClassVar[bool] = False  # the data set must have preference pairs
    split: ClassVar[Split] = "train"  # split of the data set that it reads
    trainer_config: ClassVar[str | None] = None  # name of the TRL dataclass that receives `trainer:`

    def algorithm_of(self, config: StepSettings) -> Algorithm | None:
        """Return the algorithm that this stage runs, or None."""
        return config.algorithm if self.runs_algorithm else None

    def located(self, config: StepSettings) -> Self:
        """Return these settings with folders of models instead of the runs that made them."""
        del config
        return self

    def other_models(self) -> dict[str, str]:
        """Return the models it loads in addition to the step's: key below `stage.` -> folder or hub id."""
        return {}

    def rows(self, config: StepSettings) -> Rows | None:
        """Return the rows of one optimizer step; None of a stage that does not train."""
        del config
        return None

    def trainer_arguments(self, config: StepSettings) -> dict[str, Any]:
        """Return the trainer's arguments that follow from this stage's settings."""
        del config
        return {}

    def longest_completion(self, config: StepSettings) -> tuple[str, int]:
        """Return the setting that bounds the completions this stage asks for, and its value in tokens."""
        return "max_completion_length", config.max_completion_length

    def reading_from(self, config: Config, source: str) -> Config:
        """Return `config` with its data taken from the artifact of the earlier step `source`.

        Raises:
            Refused: the data set reads no file.
        """
        if "path" not in type(config.dataset).model_fields:
            raise Refused(
                f"data_from={source} is a file, and dataset={config.dataset.kind} reads no file; give the step "
                "`use: {dataset: jsonl}` or `use: {dataset: preference}`; a part of dataset=mixture names the step itself: "
                f"dataset.parts.NAME={{preset: jsonl, path: {ARTIFACT}{source}}}"
            )
        dataset = config.dataset.model_copy(
            update={"path": str(config.dataset.file_in(ArtifactPaths.of_step(source)))}
        )
        return config.model_copy(update={"dataset": dataset})

    def own_settings(self, config: StepSettings) -> dict[str, Any]:
        """Return this stage's own settings that decide its result, and values that several settings decide together."""
        del config
        return self.model_dump(mode="json")

    def num_validation(self, config: StepSettings) -> int:
        """Return how many problems are kept out of training, for evaluations during training; 0: none."""
        del config
        return 0

    def problems(self, config: StepSettings) -> Iterator[Problem]:
        """Yield the problems of the split that this stage reads, without those kept for evaluations during training."""
        if self.split != "train":
            return config.dataset.stream(self.split)
        problems = training_problems(config.dataset, self.num_validation(config))
        if not self.trains:  # else the first ones would be others
            return problems
        return ordered(problems, config.dataset.order, config.dataset.order_by, config.seed)

    def data_sets(self, config: StepSettings) -> list[Dataset]:
        """Return the data sets that this stage reads."""
        return [config.dataset]

    def artifacts(self, config: StepSettings) -> frozenset[str]:
        """Return the earlier steps whose artifacts its data sets name."""
        return frozenset(name for dataset in self.data_sets(config) for name in dataset.artifacts(self.split))

    def pinned(self, config: Config) -> Config:
        """Return the settings with the commit of the data set instead of a branch, which could move."""
        return config.model_copy(update={"dataset": config.dataset.pinned()})

    def count(self, config: StepSettings) -> int | None:
        """Return how many problems this stage finds; None: not known before a download."""
        number = config.dataset.count(self.split)
        kept = self.num_validation(config)
        if number is None or not kept:
            return number
        dataset = config.dataset
        key = (dataset.fingerprint(), dataset.model_dump_json(), self.split, kept)
        return _COUNTS.get(key, lambda: sum(1 for _ in self.problems(config)))

    def fingerprint(self, config: StepSettings) -> str:
        """Return a content hash of the data that this stage reads."""
        return config.dataset.unordered().fingerprint_of(self.split)  # an order is a setting of training

    def check_data(self, config: StepSettings, num_problems: int | None) -> int | None:
        """Return how many of the problems this stage uses, after judging them; called once they are on this machine.

        Args:
            config: Settings of the step.
            num_problems: Problems of the split it reads; None: not known yet.

        Raises:
            Refused: the stage cannot work with them.
        """
        del config
        return num_problems

    def refuse_unready(self, config: StepSettings) -> None:
        """Raise Refused if this machine lacks what the stage needs; called before a run starts."""
        del config

    def data_notes(self, config: StepSettings) -> list[str]:
        """Return what `plan` says about the data."""
        return list(dict.fromkeys(note for dataset in self.data_sets(config) for note in dataset.notes()))

    def memory_load(self, load: Load, config: StepSettings) -> Load:
        """Return `load` with what this stage keeps in memory."""
        del config
        return load

    def describe(self, config: StepSettings, num_problems: int | None) -> str:
        """Return what the step reads and, after a comma, what it does; for `plan`. Not asked of a stage that trains.

        Args:
            config: Settings of the step.
            num_problems: Problems of the split it reads; None: not known yet.
        """
        del config
        return "problems: counted when they are there" if num_problems is None else f"{num_problems} problems"

    def details(self, config: StepSettings) -> Iterator[str]:
        """Yield what `plan --full` says about the work in addition to `describe`."""
        del config
        yield from ()


def num_validation(config: StepSettings) -> int:
    """Return `Stage.num_validation` of a stage that learns to answer the problems of its data set."""
    if not config.dataset.has_answers:
        return 0
    return smallest(config.evaluation.num_held_out, config.debug.num_problems) or 0


def smallest(*limits: int | None) -> int | None:
    """Return the smallest limit that is not None, or None."""
    return min((limit for limit in limits if limit is not None), default=None)


def resolved_path(text: str) -> Path:
    """Return a path with `~` expanded."""
    return Path(text).expanduser()
