"""Checks before a run directory is created."""

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
