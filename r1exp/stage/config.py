"""The settings of one step, from every group, checked together.

The daily knobs that only some stages read (`beta` for sft, say) must be absent where they would
do nothing, and present where they are read.
"""

from typing import Annotated, Any, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from r1exp.algorithm.settings import ALGORITHMS, AlgorithmSettings, Dpo, OnlineAlgorithm
from r1exp.algorithm.trainer_fields import complaints
from r1exp.dataset.menu import DatasetSettings
from r1exp.evaluation.settings import EvaluationSettings
from r1exp.health.settings import HealthSettings
from r1exp.launcher.settings import LauncherSettings
from r1exp.model.settings import ModelSettings
from r1exp.prompt.settings import PromptSettings
from r1exp.rewards.menu import RewardSettings
from r1exp.rollout.settings import RolloutSettings
from r1exp.settings import Settings
from r1exp.stage.kinds import STAGES, Evaluate, RewardModelling, Rl, Sft, StageSettings
from r1exp.tracking.settings import TrackingSettings

# Settings that only some stages read; a stage lists its own in `knobs`, and so does an algorithm.
STAGE_KNOBS = (
    "algorithm",
    "rewards",
    "learning_rate",
    "max_steps",
    "trainer",
    "beta",
    "num_generations",
    "temperature",
)


def knobs_of(stage: str | None, algorithm: str | None) -> frozenset[str]:
    """Return which of STAGE_KNOBS a kind of stage reads, with that kind of algorithm."""
    knobs = STAGES[stage].knobs if stage in STAGES else frozenset(STAGE_KNOBS)
    return knobs | ALGORITHMS[algorithm].knobs if stage == "rl" and algorithm in ALGORITHMS else knobs


class DebugSettings(Settings):
    """Caps that cut a run short without changing anything else."""

    max_steps: PositiveInt | None  # optimizer steps of any step
    num_problems: PositiveInt | None  # problems of any evaluation


class StepConfig(Settings):
    """Everything a person chose for one step."""

    seed: NonNegativeInt
    model: ModelSettings
    prompt: PromptSettings
    dataset: DatasetSettings
    rollout: RolloutSettings
    launcher: LauncherSettings
    tracking: TrackingSettings
    health: HealthSettings
    evaluation: EvaluationSettings
    debug: DebugSettings
    max_completion_length: PositiveInt  # tokens
    stage: StageSettings | None = None
    algorithm: AlgorithmSettings | None = None
    rewards: Annotated[dict[str, RewardSettings], Field(min_length=1)] | None = None
    learning_rate: PositiveFloat | None = None
    max_steps: PositiveInt | None = None  # optimizer steps
    beta: NonNegativeFloat | None = None  # weight of the KL penalty
    num_generations: PositiveInt | None = None  # completions per prompt
    temperature: PositiveFloat | None = None  # of sampling in training
    trainer: dict[str, Any] = Field(default_factory=dict)  # passed on to the trainer's dataclass

    @model_validator(mode="after")
    def _stage_gets_what_it_reads(self) -> Self:
        if self.stage is None:
            return self
        kind = None if self.algorithm is None else self.algorithm.kind
        reader = f"algorithm={kind}" if isinstance(self.stage, Rl) and kind else f"stage={self.stage.kind}"
        knobs = knobs_of(self.stage.kind, kind)
        for name in STAGE_KNOBS:
            given = getattr(self, name)
            if name in knobs and given is None:
                raise ValueError(f"{reader} needs {name}: give {name}=...")
            if name not in knobs and given not in (None, {}):
                raise ValueError(f"{reader} does not read {name}, so {name} would do nothing: leave it out")
        return self

    @model_validator(mode="after")
    def _groups_are_large_enough(self) -> Self:
        if self.algorithm is None or self.num_generations is None:
            return self
        least = self.algorithm.least_generations
        if self.num_generations < least:
            raise ValueError(
                f"num_generations={self.num_generations}: algorithm={self.algorithm.kind} compares the completions "
                f"of one prompt with each other and needs at least {least}; only algorithm=ppo learns from one"
            )
        return self

    @model_validator(mode="after")
    def _beta_can_move(self) -> Self:
        if (
            isinstance(self.algorithm, OnlineAlgorithm)
            and self.algorithm.kl.target is not None
            and self.beta == 0.0
        ):
            raise ValueError(
                f"algorithm.kl.target={self.algorithm.kl.target} is reached by multiplying beta, and beta=0 stays 0; "
                "start from beta=0.01, say, or leave algorithm.kl.target=null"
            )
        return self

    @model_validator(mode="after")
    def _rollout_can_be_trained(self) -> Self:
        if not isinstance(self.algorithm, OnlineAlgorithm) or not isinstance(self.stage, Rl | None):
            return self
        if not self.rollout.trains:
            raise ValueError(
                f"rollout={self.rollout.kind} answers with weights that nobody here can update, so algorithm="
                f"{self.algorithm.kind} would learn from another model's completions; use rollout=hf, "
                "rollout=vllm_colocate or rollout=vllm_server, and keep rollout=endpoint for stage=evaluate and "
                "stage=sample"
            )
        return self

    @model_validator(mode="after")
    def _trainer_takes_its_arguments(self) -> Self:
        receiver = None if self.stage is None else self.stage.trainer_class
        if (
            receiver is None and self.algorithm is not None
        ):  # also the top of a ladder, as its focus step will
            receiver = self.algorithm.trainer_class
        wrong = [] if receiver is None else complaints(receiver, self.trainer)
        if wrong:
            raise ValueError("; ".join(f"trainer.{key} {complaint}" for key, complaint in wrong))
        return self

    @model_validator(mode="after")
    def _pairs_are_there(self) -> Self:
        if isinstance(self.stage, RewardModelling):
            reader = "stage=reward_model"
        elif isinstance(self.stage, Rl) and isinstance(self.algorithm, Dpo):
            reader = "algorithm=dpo"
        else:
            return self
        if not self.dataset.has_pairs:
            raise ValueError(
                f"{reader} learns from pairs of a chosen and a rejected answer, and dataset={self.dataset.kind} has none; "
                "use dataset=preference dataset.path=pairs.jsonl, or pipeline=dpo_from_rewards, which makes them"
            )
        return self

    @model_validator(mode="after")
    def _label_smoothing_acts(self) -> Self:
        smoothing, losses = self.trainer.get("label_smoothing"), set(self.trainer.get("loss_type") or [])
        acts = losses & {"robust", "exo_pair", "aot", "aot_unpaired"}
        if isinstance(self.algorithm, Dpo) and smoothing and not acts:
            raise ValueError(
                f"trainer.label_smoothing={smoothing} does nothing with trainer.loss_type={sorted(losses)} in TRL 1.16; "
                "use trainer.loss_type=[robust]"
            )
        return self

    @model_validator(mode="after")
    def _every_loss_has_a_weight(self) -> Self:
        losses, weights = self.trainer.get("loss_type"), self.trainer.get("loss_weights")
        if isinstance(self.algorithm, Dpo) and losses and weights and len(losses) != len(weights):
            raise ValueError(
                f"trainer.loss_weights={weights} does not fit trainer.loss_type={losses}: give each loss its weight, "
                f"trainer.loss_weights={[1.0] * len(losses)}, say"
            )
        return self

    @property
    def longest_completion(self) -> tuple[str, int]:
        """The setting that bounds the completions this step asks for, and its value in tokens."""
        if isinstance(self.stage, Evaluate):
            return "evaluation.max_tokens", self.evaluation.max_tokens
        return "max_completion_length", self.max_completion_length

    @property
    def capped_steps(self) -> int:
        """The optimizer steps of a training step, after the cap of `debug`."""
        assert self.max_steps is not None
        return min(self.max_steps, self.debug.max_steps or self.max_steps)

    @property
    def rows_per_step(self) -> int:
        """Rows (SFT), pairs (DPO, reward model) or completions per optimizer step, over all ranks."""
        if isinstance(self.stage, Sft):
            return self.stage.rows_per_step
        if isinstance(self.stage, RewardModelling):
            return self.stage.pairs_per_step
        if isinstance(self.algorithm, Dpo):
            return self.algorithm.pairs_per_step
        assert self.algorithm is not None and self.num_generations is not None
        return self.algorithm.prompts_per_step * self.num_generations

    @property
    def online(self) -> OnlineAlgorithm | None:
        """The algorithm of a step that samples from the policy it trains."""
        is_online = isinstance(self.stage, Rl) and isinstance(self.algorithm, OnlineAlgorithm)
        return self.algorithm if is_online else None  # type: ignore[return-value]  # seen one line up


def scientific(config: StepConfig) -> dict[str, Any]:
    """Return the settings that decide a step's result: what its key is the hash of.

    Left out: where it runs and where numbers go (launcher, tracking, health), what a rollout says aside
    (memory, ports, patience) and, unless the step is an evaluation, what would be measured afterwards.
    """
    aside: dict[str, Any] = dict.fromkeys(("launcher", "tracking", "health"), True)
    values = config.model_dump(mode="json", exclude=aside | {"rollout": set(config.rollout.aside)})
    if config.stage is not None and config.stage.makes != "scores":
        del values["evaluation"]
    return values
