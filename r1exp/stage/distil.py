"""Settings of stage=distil. The work is in `r1exp.stage.train_distil`."""

from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import PositiveInt

from r1exp.algorithm.base import Rows
from r1exp.errors import Refused
from r1exp.model.locate import locate
from r1exp.model.settings import BYTES_PER_NUMBER, ModelSettings
from r1exp.model.shapes import count_parameters, shape_of
from r1exp.model.workload import Load
from r1exp.settings import Name, Probability
from r1exp.stage.base import ARTIFACT, TRAINING_FIELDS, TRAINING_READS, Stage, num_validation
from r1exp.stage.step_settings import StepSettings


class Distil(Stage):
    """On-policy distillation: the student answers, and learns the teacher's distribution of every next token."""

    kind: Literal["distil"]
    teacher: Name | None  # a run, step, folder or hub id; in a pipeline artifact:STEP
    prompts_per_step: PositiveInt  # prompts per optimizer step, over all ranks; one answer each
    beta: Probability  # 0: forward KL, 1: reverse KL, between: a generalized Jensen-Shannon divergence

    work = "r1exp.stage.train_distil:train_distil"
    makes = "model"
    fields = TRAINING_FIELDS | {"temperature"}
    reads = TRAINING_READS | {"prompt.system", "temperature", "max_completion_length", "rollout"}
    trains = True
    generates = True
    trainer_config = "DistillationConfig"

    def located(self, config: StepSettings) -> Self:
        """Return these settings with the folder of the teacher instead of the run or step that trained it.

        Raises:
            Refused: no teacher is named, or there is no model.
        """
        if self.teacher is None:
            raise Refused(
                "stage=distil learns from a teacher: give stage.teacher=RUN (or a step, a folder, a hub id), and in a "
                f"pipeline stage.teacher={ARTIFACT}STEP"
            )
        if self.teacher.startswith(ARTIFACT):
            return self
        try:
            place = locate(_settings_of(self.teacher, config.model))
        except Refused as error:
            raise Refused(str(error).replace("model.path", "stage.teacher")) from error
        return self.model_copy(update={"teacher": str(place)})

    def other_models(self) -> dict[str, str]:
        """Return the teacher."""
        return {} if self.teacher is None else {"teacher": self.teacher}

    def num_validation(self, config: StepSettings) -> int:
        """Return how many problems are kept out of training."""
        return num_validation(config)

    def rows(self, config: StepSettings) -> Rows:
        """Return the prompts of one optimizer step."""
        return Rows(
            self.prompts_per_step, "stage.prompts_per_step", "prompts", config.model.rows_per_device.rl
        )

    def trainer_arguments(self, config: StepSettings) -> dict[str, Any]:
        """Return how the student samples and which divergence it learns.

        Raises:
            Refused: another engine than transformers would sample.
        """
        if config.rollout.uses_vllm or config.rollout.is_remote or config.rollout.batches_ahead:
            raise Refused(
                f"rollout={config.rollout.kind}: the student of stage=distil samples with transformers and its newest weights "
                "only; type rollout=hf"
            )
        return {
            "beta": self.beta,
            "temperature": config.temperature,
            "max_completion_length": config.max_completion_length,
            "remove_unused_columns": False,
        }

    def memory_load(self, load: Load, config: StepSettings) -> Load:
        """Return `load` with the teacher; one that an earlier step trains is assumed to have the student's size."""
        own = None
        if self.teacher is not None and not self.teacher.startswith(ARTIFACT):
            own = shape_of(_settings_of(self.teacher, config.model))
        shape = own or shape_of(config.model)
        size = 0 if shape is None else count_parameters(shape) * BYTES_PER_NUMBER[config.model.dtype]
        return replace(load, logit_tokens=config.max_completion_length, others=load.others + size)


def _settings_of(teacher: str, student: ModelSettings) -> ModelSettings:
    found = {"kind": "pretrained", "path": teacher, "revision": None, "shape": None, "init_seed": None}
    return student.model_copy(update=found)
