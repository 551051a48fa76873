"""What kind of work a step does. conf/stage/*.yaml; the code that does it is r1exp/stage/<kind>.py."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from r1exp.settings import Name, Probability, Settings

SAMPLES = "samples.jsonl"  # in the artifact of stage=sample: a problem a line, with its scored answers
_TRAINING = frozenset({"learning_rate", "max_steps", "trainer"})


class Stage(Settings):
    """What the rest of the code asks of every kind of stage."""

    trains: ClassVar[bool]  # it takes optimizer steps
    makes: ClassVar[Literal["model", "reward_model", "dataset", "scores"]]  # its artifact
    knobs: ClassVar[frozenset[str]]  # top-level settings that only some stages read, and this one does
    trainer_class: ClassVar[str | None]  # the TRL dataclass that receives `trainer:`


class Sft(Stage):
    """Supervised fine-tuning on worked solutions written in the prompt's own style."""

    kind: Literal["sft"]
    rows_per_step: PositiveInt  # rows per optimizer step, over all ranks
    completion_only: bool  # the loss counts the answer's tokens only; false: the prompt's too (seed 003)

    trains = True
    makes = "model"
    knobs = _TRAINING
    trainer_class = "SFTConfig"


class Rl(Stage):
    """Reinforcement learning with the composed algorithm; what else it reads, the algorithm says."""

    kind: Literal["rl"]

    trains = True
    makes = "model"
    knobs = _TRAINING | {"algorithm"}
    trainer_class = None  # the algorithm's


class RewardModelling(Stage):
    """A reward model from preference pairs (arXiv:2203.02155, eq. 1)."""

    kind: Literal["reward_model"]
    pairs_per_step: PositiveInt  # preference pairs per optimizer step, over all ranks

    trains = True
    makes = "reward_model"
    knobs = _TRAINING
    trainer_class = "RewardConfig"


class Sample(Stage):
    """Several answers to each training problem, scored by the committee."""

    kind: Literal["sample"]
    samples: PositiveInt  # answers per problem
    num_problems: PositiveInt | None  # the first ones; null: all
    min_pass_rate: Probability  # problems answered right less often are left out of problems.jsonl
    max_pass_rate: Probability  # and those answered right more often

    trains = False
    makes = "dataset"
    knobs = frozenset({"rewards", "temperature"})
    trainer_class = None


class Preferences(Stage):
    """Pairs of a better and a worse answer, from the answers of stage=sample."""

    kind: Literal["preferences"]
    samples: (
        Name | None
    )  # folder that stage=sample left; in a ladder null: of the step it takes its data from
    min_margin: NonNegativeFloat  # reward by which the best must lead the worst
    num_pairs: PositiveInt | None  # the first ones; null: all

    trains = False
    makes = "dataset"
    knobs = frozenset[str]()
    trainer_class = None


class Evaluate(Stage):
    """Measure a model on held-out problems."""

    kind: Literal["evaluate"]

    trains = False
    makes = "scores"
    knobs = frozenset[str]()
    trainer_class = None


StageSettings = Annotated[
    Sft | Rl | RewardModelling | Sample | Preferences | Evaluate, Field(discriminator="kind")
]
STAGES: dict[str, type[Stage]] = {
    "sft": Sft, "rl": Rl, "reward_model": RewardModelling, "sample": Sample, "preferences": Preferences,
    "evaluate": Evaluate,
}  # fmt: skip
