"""The settings of one step from every config group but `stage`, as the stages read them. Torch-free."""

from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

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
    num_prompts: PositiveInt | None = None  # problems that stage=sample and stage=generate answer
    rows_per_step: PositiveInt | None = None  # rows, pairs or prompts of an optimizer step, over all ranks
    num_generations: PositiveInt | None = None  # completions of a prompt
    max_completion_length: PositiveInt | None = None  # tokens of a completion


class StepSettings(Settings):
    """What a stage may read."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]  # seed of all random numbers in training and sampling
    model: ModelSettings  # the policy: weights, tokenizer, number types, adapters
    prompt: PromptSettings  # how a problem is presented to the model, and where its answer is read
    dataset: DatasetSettings  # where the problems come from: source, splits, columns, limits
    rollout: RolloutSettings  # who generates completions: transformers, vLLM or an endpoint
    launcher: LauncherSettings  # where the processes of a step run: this machine, several GPUs, SLURM
    # Where metrics are written in addition to metrics.jsonl: name -> tracker.
    tracking: TrackingSettings = Field(default_factory=dict)
    health: HealthSettings  # rules on logged metrics that warn, save a checkpoint or stop the step
    completions: CompletionSettings  # how many completions are kept in the run directory
    evaluation: EvaluationSettings  # which held-out problems are answered, how often, and when
    debug: DebugSettings  # limits that cut every step short, to see that a run works to its end
    max_completion_length: PositiveInt  # tokens
    algorithm: AlgorithmSettings | None = None  # how stage=rl updates the policy
    # The committee: name -> reward with a weight.
    rewards: Annotated[dict[str, RewardSettings], Field(min_length=1)] | None = None
    learning_rate: PositiveFloat | None = None  # the largest one; its schedule is trainer.lr_scheduler_type
    max_steps: PositiveInt | None = None  # optimizer steps
    beta: NonNegativeFloat | None = None  # weight of the KL penalty
    num_generations: PositiveInt | None = None  # completions per prompt
    temperature: PositiveFloat | None = None  # of sampling in training
    trainer: dict[str, Any] = Field(default_factory=dict)  # passed on to the trainer's dataclass
