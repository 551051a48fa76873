"""Validates the settings of one step, from every config group, together.

Settings that only some stages read (`beta`, for example) must be given where they are read, and must be absent where
they would have no effect. Torch-free.
"""

from collections.abc import Iterable
from typing import Any, Self

from pydantic import model_validator

from r1exp.algorithm.base import OnlineAlgorithm, Rows
from r1exp.algorithm.menu import ALGORITHMS
from r1exp.algorithm.trainer_fields import LOGGED_ROWS, OUTSIDE_KEY, complaints
from r1exp.launcher.base import Device
from r1exp.model.quantization import refuse_unable
from r1exp.rewards.advice import check_members
from r1exp.serving.step_server import ServedStep
from r1exp.stage.base import STAGE_FIELDS
from r1exp.stage.menu import STAGES, StageSettings
from r1exp.stage.step_settings import StepSettings


def fields_read_by(stage: str, algorithm: str | None) -> frozenset[str]:
    """Return which of STAGE_FIELDS a stage reads.

    Args:
        stage: The kind of stage.
        algorithm: The kind of algorithm, for a stage that runs one; None: any, so that every field counts.
    """
    found = STAGES.find(stage)
    if not found.runs_algorithm:
        return found.fields
    if algorithm is None:
        return frozenset(STAGE_FIELDS)
    return found.fields | ALGORITHMS.find(algorithm).fields


class StepConfig(StepSettings):
    """Every setting of one step."""

    stage: StageSettings | None = None  # the kind of work of the step; null in a run with a pipeline

    @model_validator(mode="after")
    def _every_field_is_read(self) -> Self:
        if self.stage is None:
            return self
        algorithm = self.stage.algorithm_of(self)
        reader = f"stage={self.stage.kind}" if algorithm is None else f"algorithm={algorithm.kind}"
        fields = self.stage.fields | (frozenset() if algorithm is None else algorithm.fields)
        for name in STAGE_FIELDS:
            given = getattr(self, name)
            if name in fields and given is None:
                raise ValueError(f"{reader} needs {name}: give {name}=...")
            if name not in fields | self.stage.may_read and given not in (None, {}):
                raise ValueError(
                    f"{reader} does not read {name}, so {name} would have no effect: leave it out"
                )
        return self

    @model_validator(mode="after")
    def _the_rewards_fit_together(self) -> Self:
        if self.rewards is not None:
            check_members(self.rewards)
        return self

    @model_validator(mode="after")
    def _groups_are_large_enough(self) -> Self:
        if self.algorithm is None or self.num_generations is None:
            return self
        least = self.algorithm.least_generations
        if self.num_generations < least:
            raise ValueError(
                f"num_generations={self.num_generations}: algorithm={self.algorithm.kind} compares the completions "
                f"of one prompt with each other and needs at least {least}; algorithm=ppo and algorithm=reinforce_pp learn from one"
            )
        return self

    @model_validator(mode="after")
    def _the_algorithm_can_work(self) -> Self:
        if self.algorithm is not None:
            self.algorithm.check(self.beta, self.trainer)
        return self

    @model_validator(mode="after")
    def _the_kl_can_be_adapted(self) -> Self:
        adapting = [name for name, rule in self.health.rules.items() if rule.action == "adapt"]
        is_online = self.algorithm is not None and self.algorithm.online is not None
        if adapting and is_online and self.beta == 0.0:
            raise ValueError(
                f"health.rules.{adapting[0]}.action=adapt multiplies beta, and beta=0 would stay 0; start from beta=0.01, "
                "for example, or choose another action"
            )
        return self

    @model_validator(mode="after")
    def _the_rollout_can_train(self) -> Self:
        # Also checked without a stage, at the top of a pipeline, because its focus step runs the algorithm.
        runs = self.stage is None or self.stage.runs_algorithm
        if self.algorithm is None or self.algorithm.online is None or not runs or self.rollout.trains:
            return self
        raise ValueError(
            f"rollout={self.rollout.kind} generates with weights that r1exp cannot update, so algorithm="
            f"{self.algorithm.kind} would learn from another model's completions; use rollout=hf, "
            "rollout=vllm_colocate or rollout=vllm_server, and keep rollout=endpoint for stage=evaluate, "
            "stage=sample and stage=generate"
        )

    @model_validator(mode="after")
    def _completions_of_older_weights_can_be_used(self) -> Self:
        number, online = self.rollout.batches_ahead, self.online
        if number == 0 or online is None:
            return self
        if not online.corrects_staleness:
            raise ValueError(
                f"rollout.staleness={number} needs a loss with the ratio to the weights that sampled, for completions that are "
                f"all sampled together; algorithm={online.kind} has none, or resamples prompts: use rollout.staleness=0"
            )
        if self.model.lora.r:
            raise ValueError(
                f"rollout.staleness={number} hands plain weights to the process that samples, and "
                f"model.lora.r={self.model.lora.r} trains adapters; use rollout.staleness=0, or model.lora.r=0"
            )
        return self

    @model_validator(mode="after")
    def _a_quantized_model_can_work(self) -> Self:
        refuse_unable(
            self.model,
            partitions_weights=self.launcher.partitions_weights,
            uses_vllm=self.generates and self.rollout.uses_vllm,
        )
        return self

    @model_validator(mode="after")
    def _the_trainer_accepts_its_arguments(self) -> Self:
        receiver = None if self.stage is None else self.stage.trainer_config
        if receiver is None and self.algorithm is not None:
            receiver = self.algorithm.trainer_config
        given = {
            key: value
            for key, value in self.trainer.items()
            if (key, value) != ("gradient_checkpointing", "auto")  # the plan chooses it (r1exp.plan.fit)
        }
        wrong = [] if receiver is None else complaints(receiver, given)
        if wrong:
            raise ValueError("; ".join(f"trainer.{key} {complaint}" for key, complaint in wrong))
        return self

    @model_validator(mode="after")
    def _the_data_set_has_pairs(self) -> Self:
        if self.stage is None:
            return self
        algorithm = self.stage.algorithm_of(self)
        if self.stage.reads_pairs:
            reader = f"stage={self.stage.kind}"
        elif algorithm is not None and algorithm.reads_pairs:
            reader = f"algorithm={algorithm.kind}"
        else:
            return self
        if self.dataset.order is not None:
            raise ValueError(
                f"dataset.order={self.dataset.order} orders the rows of stage=sft and the prompts of an algorithm that samples from "
                f"the policy; {reader} learns from pairs, which are shuffled: leave dataset.order out"
            )
        if not self.dataset.has_pairs:
            raise ValueError(
                f"{reader} learns from pairs of a chosen and a rejected answer, and dataset={self.dataset.kind} has "
                "none; use dataset=preference dataset.path=pairs.jsonl, or pipeline=dpo_from_rewards, which makes them"
            )
        return self

    @model_validator(mode="after")
    def _the_data_set_has_labels(self) -> Self:
        algorithm = None if self.stage is None else self.stage.algorithm_of(self)
        if algorithm is None or not algorithm.reads_labels:
            return self
        if not (self.dataset.has_labels or self.dataset.has_pairs):
            raise ValueError(
                f"algorithm={algorithm.kind} learns from answers that are labelled good or bad, and dataset="
                f"{self.dataset.kind} has none; use dataset=labelled dataset.path=answers.jsonl, dataset=preference, or "
                "pipeline=kto_from_rewards, which labels the policy's own answers"
            )
        return self

    @property
    def longest_completion(self) -> tuple[str, int]:
        """The setting that limits the completions of this step, and its value in tokens."""
        assert self.stage is not None
        return self.stage.longest_completion(self)

    @property
    def rows(self) -> Rows:
        """The rows, pairs or completions of one optimizer step, over all ranks."""
        rows = None if self.stage is None else self.stage.rows(self)
        assert rows is not None, "only a stage that trains has rows"
        return rows

    @property
    def online(self) -> OnlineAlgorithm | None:
        """The algorithm of a step that samples from the policy it trains, else None."""
        algorithm = None if self.stage is None else self.stage.algorithm_of(self)
        return None if algorithm is None else algorithm.online

    @property
    def validates(self) -> bool:
        """Whether the model is evaluated while it is trained."""
        return (
            self.stage is not None
            and self.stage.trains
            and self.evaluation.every is not None
            and self.stage.num_validation(self) > 0
        )

    @property
    def generates(self) -> bool:
        """Whether the step needs completions of its rollout."""
        return self.online is not None or (self.stage is not None and self.stage.generates)

    @property
    def can_fork(self) -> bool:
        """Whether a fork server may start the step: it leaves out vLLM and bitsandbytes, which must be imported before the rest."""
        return self.model.quantization is None and not (self.generates and self.rollout.uses_vllm)

    @property
    def loads_model(self) -> bool:
        """Whether the result depends on the model that the step starts from."""
        # A stage that does not declare what it reads may read the model as well.
        return self.stage is not None and (self.stage.trains or self.generates or self.stage.reads is None)

    def served(self, device: Device, key: str) -> ServedStep | None:
        """Return what the step's vLLM server needs to know; None if the step needs no server.

        Args:
            device: Device of the step.
            key: Key of the step.
        """
        settings = self.rollout.server if self.generates else None
        if settings is None:
            return None
        return ServedStep(settings, self.launcher, self.model, device, self.online is not None, key)

    def other_models(self) -> dict[str, str]:
        """Return the models that the step loads in addition to its own: dotted key -> folder or hub id."""
        found = {
            f"rewards.{name}.{key}": path
            for name, member in (self.rewards or {}).items()
            for key, path in member.other_models().items()
        }
        if self.stage is not None:
            found |= {f"stage.{key}": path for key, path in self.stage.other_models().items()}
        if self.algorithm is not None:
            found |= {f"algorithm.{key}": path for key, path in self.algorithm.other_models().items()}
        return found

    def deciding_settings(self) -> dict[str, Any]:
        """Return the settings that decide the step's result; the step's key is a hash of them.

        They are what the stage and its algorithm declare to read (`reads`), without the arguments of the trainer and the
        fields of the rollout that change no result.
        """
        assert self.stage is not None
        outside = self.rollout.outside_key
        if self.stage.trains:
            outside |= self.rollout.outside_key_of_training
        else:
            outside |= self.rollout.outside_key_without_training
        algorithm = self.stage.algorithm_of(self)
        unread = OUTSIDE_KEY if algorithm is None else OUTSIDE_KEY | algorithm.outside_key
        values = self.model_dump(mode="json", exclude={"rollout": set(outside), "trainer": set(unread)})
        reads = self._reads()
        chosen = values if reads is None else selected(values, reads)
        chosen["stage"] = self.stage.own_settings(self)
        for name in ("launcher", "tracking", "health", "completions", "debug", "max_steps"):
            chosen.pop(name, None)
        if self.stage.num_validation(self):
            chosen["validation"] = {"held_out": self.stage.num_validation(self)}
        if self.stage.trains:
            rules = self.health.deciding()
            reads_accuracy = any(metric.startswith("eval/") for metric in self.health.deciding_metrics())
            if self.validates and (self.evaluation.keep_best is not None or reads_accuracy):
                chosen["validation"] |= self.evaluation.validation(
                    self.dataset, self.prompt
                ).deciding_settings()
                chosen["validation"] |= {
                    "every": self.evaluation.every,
                    "keep_best": self.evaluation.keep_best,
                }
            rows = {name: self.trainer[name] for name in LOGGED_ROWS if rules and name in self.trainer}
            chosen |= {"optimizer_steps": self.max_steps, "stop_rules": rules, "logged_rows": rows}
        return chosen

    def _reads(self) -> frozenset[str] | None:
        assert self.stage is not None
        algorithm = self.stage.algorithm_of(self)
        if self.stage.reads is None or algorithm is None:
            return self.stage.reads
        return self.stage.reads | algorithm.reads | algorithm.fields


def selected(values: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return the part of nested `values` that the dotted `keys` name."""
    found: dict[str, Any] = {}
    for key in sorted(keys):
        head, _, rest = key.partition(".")
        if head not in values:  # `exclude_if`: an optional field that is not set
            continue
        if rest:
            found.setdefault(head, {}).update(selected(values[head], [rest]))
        else:
            found[head] = values[head]
    return found
