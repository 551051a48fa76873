"""A command that names no launcher: two ranks with one thread each on a CPU, one process on a GPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1exp.config.experiment import Experiment
from r1exp.launcher.base import Launcher
from r1exp.plan.steps import planned_steps

Compose = Callable[..., Experiment]
SFT = ("stage=sft", "evaluation.before=false", "evaluation.after=false")
EVALUATE = ("stage=evaluate",)


def launcher_of(compose_line: Compose, *overrides: str) -> Launcher:
    stage = [] if "stage=evaluate" in overrides else SFT
    line = compose_line(*stage, *overrides)
    (step,) = planned_steps(line)
    return step.config.launcher


@pytest.mark.parametrize(
    ("overrides", "kind", "ranks"),
    [
        pytest.param((), "ddp", 2, id="CPU"),
        pytest.param(("launcher.num_processes=1",), "local", 1, id="one is typed"),
        pytest.param(("launcher.num_processes=4",), "ddp", 4, id="four are typed"),
        pytest.param(("stage.rows_per_step=7",), "local", 1, id="rows that two cannot share"),
        pytest.param((*EVALUATE, "rollout=endpoint", "rollout.url=http://127.0.0.1:1/v1", "rollout.model=m"), "local", 1, id="endpoint"),
        pytest.param((*EVALUATE, "rollout=hf"), "ddp", 2, id="evaluation"),
        pytest.param(("launcher.device=cuda",), "local", 1, id="GPU"),
        pytest.param(("launcher=local",), "local", 1, id="a launcher is typed"),
    ],
)  # fmt: skip
def test_the_number_of_ranks(
    compose_line: Compose, overrides: tuple[str, ...], kind: str, ranks: int
) -> None:
    found = launcher_of(compose_line, *overrides)
    assert (found.kind, found.num_processes) == (kind, ranks)


def test_ranks_and_threads_do_not_depend_on_the_cores_of_the_machine(
    compose_line: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    found = []
    for cores in ({0}, set(range(64))):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid, cores=cores: cores)
        launcher = launcher_of(compose_line, "launcher.device=cpu")
        launch: Any = launcher.launch(Path("step"))
        found.append((launcher.numerics("cpu"), launch.environment["OMP_NUM_THREADS"]))
    assert found[0] == found[1]
    assert found[0][1] == "1"
    assert launch.environment["OMP_WAIT_POLICY"] == "passive"


def test_the_users_own_way_of_waiting_is_kept(compose_line: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    launch = launcher_of(compose_line, "launcher.device=cpu").launch(Path("step"))
    assert launch.environment["OMP_WAIT_POLICY"] == "active"


def test_what_may_be_forked(compose_line: Compose) -> None:
    assert launcher_of(compose_line, "launcher.device=cpu").launch(Path("step")).can_fork
    assert not launcher_of(compose_line, "launcher.device=cuda").launch(Path("step")).can_fork
    alone = launcher_of(compose_line, "launcher=ddp", "launcher.num_processes=1", "launcher.device=cpu")
    assert not alone.launch(Path("step")).can_fork  # accelerate starts it in another way
