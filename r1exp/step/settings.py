"""What kind of work a step does. conf/stage/*.yaml; the code that does it is r1exp/stage/<kind>.py."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from r1exp.settings import Settings


class Stage(Settings):
    """What the rest of the code asks of every kind of stage."""

    trains: ClassVar[bool]  # its artifact is a model
    knobs: ClassVar[frozenset[str]]  # top-level settings that only some stages read, and this one does
    trainer_class: ClassVar[str | None]  # the TRL dataclass that receives `trainer:`


class Sft(Stage):
    """Supervised fine-tuning on worked solutions written in the prompt's own style."""

    kind: Literal["sft"]
    rows_per_step: PositiveInt  # rows per optimiser step, over all ranks
    completion_only: bool  # the loss counts the answer's tokens only; false: the prompt's too (seed 003)

    trains = True
    knobs = frozenset({"learning_rate", "max_steps", "trainer"})
    trainer_class = "SFTConfig"


class Rl(Stage):
    """Reinforcement learning with the composed rewards and algorithm."""

    kind: Literal["rl"]

    trains = True
    knobs = frozenset(
        {
            "learning_rate",
            "max_steps",
            "trainer",
            "algorithm",
            "rewards",
            "beta",
            "num_generations",
            "temperature",
        }
    )
    trainer_class = "GRPOConfig"


class Evaluate(Stage):
    """Measure a model on held-out problems."""

    kind: Literal["evaluate"]

    trains = False
    knobs = frozenset[str]()
    trainer_class = None


StageSettings = Annotated[Sft | Rl | Evaluate, Field(discriminator="kind")]
STAGES: dict[str, type[Stage]] = {"sft": Sft, "rl": Rl, "evaluate": Evaluate}
