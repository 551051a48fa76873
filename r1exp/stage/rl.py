"""Settings of stage=rl. The work is in `r1exp.stage.train_rl`."""

from typing import Any, Literal

from r1exp.algorithm.base import Algorithm, Rows
from r1exp.model.workload import Load
from r1exp.stage.base import TRAINING_FIELDS, TRAINING_READS, Stage, num_validation
from r1exp.stage.step_settings import StepSettings


class Rl(Stage):
    """Reinforcement learning with the composed algorithm, which states the further settings it reads."""

    kind: Literal["rl"]

    work = "r1exp.stage.train_rl:train_rl"
    makes = "model"
    fields = TRAINING_FIELDS | {"algorithm"}
    reads = TRAINING_READS | {"prompt.system", "algorithm"}  # rewards have a style of their own
    trains = True
    runs_algorithm = True

    def num_validation(self, config: StepSettings) -> int:
        """Return how many problems are kept out of training; none by an algorithm that learns from pairs."""
        return 0 if _algorithm(config).online is None else num_validation(config)

    def count(self, config: StepSettings) -> int | None:
        """Return how many rows the algorithm finds; a pair is two of one that learns from labelled answers."""
        number = super().count(config)
        is_split = _algorithm(config).reads_labels and config.dataset.has_pairs
        return 2 * number if number is not None and is_split else number

    def own_settings(self, config: StepSettings) -> dict[str, Any]:
        """Return the stage's settings, and the order of the prompts if there is one."""
        return super().own_settings(config) | config.dataset.order_settings

    def rows(self, config: StepSettings) -> Rows:
        """Return the algorithm's rows."""
        return _algorithm(config).rows(config.num_generations, config.model.rows_per_device)

    def trainer_arguments(self, config: StepSettings) -> dict[str, Any]:
        """Return the algorithm's arguments, the revision from which TRL loads the reference, and whether prompts are shuffled."""
        assert config.beta is not None
        revision = config.model.revision
        reference = {} if revision is None else {"model_init_kwargs": {"revision": revision}}
        in_order = {"shuffle_dataset": False} if config.dataset.order and _algorithm(config).online else {}
        return _algorithm(config).trainer_arguments(config.beta) | reference | in_order

    def memory_load(self, load: Load, config: StepSettings) -> Load:
        """Return `load` with what the algorithm keeps."""
        return _algorithm(config).memory_load(
            load, config.model, config.beta or 0.0, config.max_completion_length
        )


def _algorithm(config: StepSettings) -> Algorithm:
    assert config.algorithm is not None
    return config.algorithm
