"""A plan is read back as it was written, and one of another version is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.paths import RunPaths
from r1exp.plan.run_plan import read_plan
from r1exp.plan.steps import planned_steps, run_plan


def test_a_plan_is_read_back_as_it_was_written(
    compose_line: Callable[..., Experiment], tmp_path: Path
) -> None:
    experiment = compose_line("beta=0", "launcher=slurm", 'launcher.extra=["--mem=0"]')
    steps = planned_steps(experiment)
    run_plan(experiment, steps).write(tmp_path)
    read = read_plan(tmp_path)
    assert [step.model_dump() for step in read.steps] == [
        step.model_dump(exclude={"composed", "belongs_to"}) for step in steps
    ]
    assert read.steps[3].trainer_args["beta"] == 5e-324  # the smallest positive number survives JSON
    assert read.config == experiment.run


def test_a_plan_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    RunPaths(tmp_path).plan.write_text(json.dumps({"words": [], "top": {}}))
    with pytest.raises(Refused, match=r"plan.json was not written by this version of r1exp"):
        read_plan(tmp_path)
