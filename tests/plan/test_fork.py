"""What a fork may change, and its key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.plan.fork import Parent, find_parent, forked
from r1exp.plan.steps import PlannedStep, planned_steps, run_plan
from r1exp.step.checkpoints import Mark

LINE = (
    "stage=rl", "max_steps=20", "algorithm.prompts_per_step=4", "num_generations=4", "algorithm.minibatches=2",
    "evaluation.before=false", "evaluation.after=false", "tracking=none", "launcher.device=cpu",
)  # fmt: skip
Compose = Callable[..., Experiment]


def planned(compose_line: Compose, *overrides: str) -> PlannedStep:
    keys = {text.partition("=")[0] for text in overrides}
    line = [text for text in LINE if text.partition("=")[0] not in keys]
    (step,) = planned_steps(compose_line(*line, *overrides))
    return step


@pytest.fixture
def parent(compose_line: Compose) -> Parent:
    experiment = compose_line(*LINE)
    (step,) = planned_steps(experiment)
    mark = Mark(
        version="1", key=step.key, global_step=10, data=step.data, tracking_id=None, settings={}, sound=True, files={}
    )  # fmt: skip
    return Parent(Path("run"), run_plan(experiment, (step,)), step, 10, Path("checkpoint-10"), mark, False)


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ("beta=0.1", {"beta": (0.005, 0.1)}),
        ("temperature=0.5", {"temperature": (1.0, 0.5)}),
        ("num_generations=8", {"num_generations": (4, 8)}),
        ("trainer.max_grad_norm=0.5", {"trainer.max_grad_norm": (1.0, 0.5)}),
        ("rewards.graded.weight=0.5", {"rewards.graded.weight": (1.0, 0.5)}),
        ("max_steps=30", {"max_steps": (20, 30)}),
        ("seed=2", {"seed": (1, 2)}),
    ],
)
def test_a_change_gives_a_key_of_its_own_and_is_noted(
    compose_line: Compose, parent: Parent, change: str, changed: dict[str, Any]
) -> None:
    whole = planned(compose_line, change)
    fork = forked(whole, parent, {})
    assert fork.key not in (whole.key, parent.step.key)
    assert fork.fork is not None
    assert fork.fork.changes == changed
    assert fork.key == forked(whole, parent, {}).key


def test_a_fork_without_a_change_is_the_step_itself(compose_line: Compose, parent: Parent) -> None:
    fork = forked(planned(compose_line), parent, {})
    assert fork.key == parent.step.key
    assert fork.fork is not None
    assert fork.fork.text() == "nothing changed"


def test_forks_of_two_checkpoints_have_two_keys(compose_line: Compose, parent: Parent) -> None:
    whole = planned(compose_line, "beta=0.1")
    later = Parent(parent.run, parent.plan, parent.step, 12, parent.checkpoint, parent.mark, False)
    assert forked(whole, parent, {}).key != forked(whole, later, {}).key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.shape.hidden_size=64", "state of another model"),
        ("dataset.num_train=500", "would mean other prompts"),
        ("algorithm.prompts_per_step=8", "would mean other prompts"),
        ("algorithm.minibatches=1", "would mean other prompts"),
        ("trainer.optim=sgd", "another optimizer"),
        ("rollout.seed_each_batch=true", "other random numbers"),
        ("algorithm=rloo", "another trainer"),
        ("launcher=local", "which files"),
        ("max_steps=10", "has taken 10 optimizer steps already"),
    ],
)
def test_what_the_checkpoint_cannot_be_continued_with_is_refused(
    compose_line: Compose, parent: Parent, change: str, message: str
) -> None:
    with pytest.raises(Refused, match=message):
        forked(planned(compose_line, change), parent, {})


def test_groups_of_another_size_are_refused_within_a_generation_batch(
    compose_line: Compose, parent: Parent
) -> None:
    within = Parent(parent.run, parent.plan, parent.step, 11, parent.checkpoint, parent.mark, False)
    with pytest.raises(Refused, match="fork after a multiple of 2"):
        forked(planned(compose_line, "num_generations=8"), within, {})


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no plan"):
        find_parent(tmp_path, None, 10)
