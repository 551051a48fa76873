from collections.abc import Callable

import pytest

from r1exp.config.experiment import Experiment
from r1exp.plan.steps import planned_steps
from r1exp.step.frozen import Step


@pytest.fixture
def frozen(compose_line: Callable[..., Experiment]) -> Callable[..., Step]:
    """Return a function that freezes the one step of a command line."""

    def freeze(*words: str) -> Step:
        (step,) = planned_steps(compose_line(*words, "evaluation.before=false", "evaluation.after=false"))
        return Step(
            name=step.name, index=1, run_id="run", run_name="run", key=step.key, data=step.data, config=step.config,
            device="cpu", world_size=1, trainer_args=step.trainer_args, model_path="unused",
        )  # fmt: skip

    return freeze
