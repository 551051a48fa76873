"""Checks before a run directory is created."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.plan.steps import planned_steps
from r1exp.rollout import settings
from r1exp.runner.run_directory import start_run


def test_a_run_that_needs_vllm_is_refused_if_it_is_not_installed(
    compose_line: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    experiment = compose_line("stage=rl", "rollout=vllm_colocate", "tracking=none")
    with pytest.raises(Refused, match="rollout=vllm_colocate needs vLLM"):
        start_run(experiment, planned_steps(experiment))
    assert not list(tmp_path.iterdir())


def test_runs_and_sweep_members_are_told_apart_in_trackers_and_members_share_a_group(
    compose_line: Callable[..., Experiment], tmp_path: Path
) -> None:
    experiment = compose_line("stage=rl", "tracking=none", f"paths.store={tmp_path}/store")
    steps = planned_steps(experiment)
    folders = ["a/run", "b/run", "first-sweep/0", "first-sweep/1", "second-sweep/0"]
    tracked = [start_run(experiment, steps, tmp_path / folder).tracked() for folder in folders]
    assert len({run.identity for run in tracked}) == 5
    assert [run.group for run in tracked] == ["run", "run", "first-sweep", "first-sweep", "second-sweep"]
    assert [run.name for run in tracked] == [
        "quickstart",
        "quickstart",
        "quickstart/0",
        "quickstart/1",
        "quickstart/0",
    ]
    again = start_run(experiment, steps, tmp_path / "a/run").tracked()
    assert again == tracked[0]


def test_runs_that_start_at_once_have_folders_of_their_own(
    compose_line: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = compose_line("stage=rl", "tracking=none")
    steps = planned_steps(experiment)
    start = os.pipe()
    children = []
    for _ in range(8):
        if (child := os.fork()) == 0:
            os.close(start[1])
            os.read(start[0], 1)  # until all children are there
            start_run(experiment, steps)
            os._exit(0)
        children.append(child)
    os.close(start[1])
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    assert len(list(tmp_path.glob("runs/*/*/manifest.json"))) == 8


def test_of_two_experiments_that_start_in_one_folder_one_is_refused(
    compose_line: Callable[..., Experiment], tmp_path: Path
) -> None:
    lines = [
        ("stage=rl", "tracking=none", f"paths.store={tmp_path}/store", f"seed={seed}") for seed in (1, 2)
    ]
    first, second = (compose_line(*line) for line in lines)
    start_run(first, planned_steps(first), tmp_path / "run")
    with pytest.raises(Refused, match="contains another experiment"):
        start_run(second, planned_steps(second), tmp_path / "run")
    (tmp_path / "run" / "manifest.json").write_text("[]")
    with pytest.raises(Refused, match="is damaged"):
        start_run(second, planned_steps(second), tmp_path / "run")
