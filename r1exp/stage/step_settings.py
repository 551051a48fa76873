"""The settings of one step from every config group but `stage`, as the stages read them. Torch-free."""

from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from r1exp.algorithm.menu import AlgorithmSettings
from r1exp.dataset.menu import DatasetSettings
from r1exp.evaluation.settings import EvaluationSettings
from r1exp.health.settings import HealthSettings
from r1exp.launcher.menu import LauncherSettings
from r1exp.model.settings import ModelSettings
from r1exp.prompt.settings import PromptSettings
from r1exp.rewards.menu import RewardSettings
from r1exp.rollout.menu import RolloutSettings
from r1exp.settings import Settings
from r1exp.tracking.completions import CompletionSettings
from r1exp.tracking.menu import TrackingSettings


class DebugSettings(Settings):
    """Largest values of settings that decide how long a step takes; null: no limit. Typed values may be larger."""

    max_steps: PositiveInt | None  # optimizer steps of any step
    num_problems: PositiveInt | None  # problems of any evaluation
    num_rows: PositiveInt | None = None  # rows of the training split
    num_prompts: PositiveInt | None = None  # problems that stage=sample answers
    rows_per_step: PositiveInt | None = None  # rows, pairs or prompts of an optimizer step, over all ranks
    num_generations: PositiveInt | None = None  # completions of a prompt
    max_completion_length: PositiveInt | None = None  # tokens of a completion


class StepSettings(Settings):
    """What a stage may read."""

    seed: NonNegativeInt
    model: ModelSettings
    prompt: PromptSettings
    dataset: DatasetSettings
    rollout: RolloutSettings
    launcher: LauncherSettings
    tracking: TrackingSettings = Field(default_factory=dict)
    health: HealthSettings
    completions: CompletionSettings
    evaluation: EvaluationSettings
    debug: DebugSettings
    max_completion_length: PositiveInt  # tokens
    algorithm: AlgorithmSettings | None = None
    rewards: Annotated[dict[str, RewardSettings], Field(min_length=1)] | None = None
    learning_rate: PositiveFloat | None = None
    max_steps: PositiveInt | None = None  # optimizer steps
    beta: NonNegativeFloat | None = None  # weight of the KL penalty
    num_generations: PositiveInt | None = None  # completions per prompt
    temperature: PositiveFloat | None = None  # of sampling in training
    trainer: dict[str, Any] = Field(default_factory=dict)  # passed on to the trainer's dataclass
