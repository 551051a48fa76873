"""How many members of a sweep run at once: by cores, memory and GPUs, and what `plan -m` says about it."""

from collections.abc import Callable, Iterator

import pytest

from r1exp.config.compose import session
from r1exp.errors import Refused
from r1exp.launcher.base import Device
from r1exp.plan.devices import Hardware, planning_for
from r1exp.plan.members import command_of, members_of
from r1exp.plan.show import plan_text
from r1exp.plan.side_by_side import Parallel, parallel_of

SFT = ["stage=sft", "evaluation.before=false", "evaluation.after=false", "seed=1"]
GIB = 1 << 30


@pytest.fixture
def parallel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Parallel]]:
    """Return a function that plans a sweep of six equal members for a machine of some cores and some memory."""

    def plan(*overrides: str, cores: int = 8, memory: int = 64 * GIB, gpus: int = 0) -> Parallel:
        monkeypatch.setattr("r1exp.plan.side_by_side.available_cores", lambda: cores)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus))))
        device: Device = "cuda" if gpus else "cpu"
        with planning_for(Hardware("a machine", device, memory, gpus or None)):
            kind = [] if any(text.startswith("launcher=") for text in overrides) else ["launcher=local"]
            line = [*SFT, *kind, f"launcher.device={device}", *overrides]
            command = command_of(line, is_multirun=True)
            return parallel_of(command, members_of(command) * 6)

    with session():
        yield plan


@pytest.mark.parametrize(
    ("overrides", "cores", "number", "reason"),
    [
        pytest.param(["sweep.parallel=auto"], 4, 4, "4 cores, 1 a member", id="one core a member"),
        pytest.param(
            ["sweep.parallel=auto", "launcher=ddp"], 4, 2, "4 cores, 2 a member", id="a core for each of two ranks"
        ),
        pytest.param(
            ["sweep.parallel=auto", "launcher.threads_per_process=3"], 8, 2, "8 cores, 3 a member", id="threads"
        ),
        pytest.param(["sweep.parallel=auto", "launcher=ddp"], 1, 1, "1 core, 2 a member", id="at least one member"),
        pytest.param(["sweep.parallel=auto"], 64, 6, "6 members", id="no more than there are"),
        pytest.param(["sweep.parallel=3"], 1, 3, "3 at once", id="a number that was typed"),
    ],
)  # fmt: skip
def test_cores_are_dealt_out(
    overrides: list[str], cores: int, number: int, reason: str, parallel: Callable[..., Parallel]
) -> None:
    found = parallel(*overrides, cores=cores)
    assert found.number == number
    assert reason in found.text
    assert found.devices == ()


def test_members_share_the_memory_of_a_machine(parallel: Callable[..., Parallel]) -> None:
    found = parallel("sweep.parallel=auto", memory=3 * GIB)
    assert found.number == 1  # the estimate of the model, and 0.75 GB for Python and torch: 1.6 GB of 2.9
    assert "of memory" in found.text


def test_more_members_than_fit_are_said(parallel: Callable[..., Parallel]) -> None:
    (odd,) = parallel("sweep.parallel=3", cores=2).odd
    assert "3 members at once are more than fit (2 cores, 1 a member)" in odd


def test_members_get_gpus_of_their_own_or_share_them(parallel: Callable[..., Parallel]) -> None:
    assert parallel("sweep.parallel=auto", gpus=4).number == 4
    found = parallel("sweep.parallel=auto", "sweep.members_per_device=2", gpus=2)
    assert (found.number, found.devices) == (4, ("0", "1"))
    assert "2 GPU(s), 1 a member, 2 members on one" in found.text


@pytest.mark.parametrize(
    ("overrides", "gpus", "memory", "part"),
    [
        pytest.param(["sweep.parallel=3"], 2, 64 * GIB, "type sweep.parallel=2", id="too few GPUs"),
        pytest.param(["sweep.members_per_device=2"], 0, 64 * GIB, "compute on the CPU", id="no GPU to share"),
        pytest.param(
            ["sweep.members_per_device=8"], 1, 8 * GIB, "type sweep.members_per_device=", id="too little memory"
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    overrides: list[str], gpus: int, memory: int, part: str, parallel: Callable[..., Parallel]
) -> None:
    with pytest.raises(Refused, match=part):
        parallel(*overrides, gpus=gpus, memory=memory)


def test_vllm_gets_the_part_of_a_member_and_the_step_keeps_its_key() -> None:
    line = ["stage=rl", "rollout=vllm_colocate", "launcher=local", "launcher.device=cuda", "seed=1"]
    with session(), planning_for(Hardware("h100", "cuda", 80 * GIB, 1)):
        (alone,) = members_of(command_of(line, is_multirun=True))
        (shared,) = members_of(command_of([*line, "sweep.members_per_device=2"], is_multirun=True))
    before, after = (next(step for step in each.steps if step.batch) for each in (alone, shared))
    name = "vllm_gpu_memory_utilization"
    assert after.trainer_args[name] == before.trainer_args[name] / 2
    assert after.key == before.key


def test_plan_says_how_many_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r1exp.plan.side_by_side.available_cores", lambda: 4)
    line = [*SFT[:-1], "launcher=local", "launcher.device=cpu", "seed=1,2"]
    assert "2 at once (2 members)" in plan_text([*line, "sweep.parallel=auto"], is_multirun=True)
    assert "one after the other; sweep.parallel=auto runs 2 at once" in plan_text(line, is_multirun=True)


def test_a_part_of_a_gpu_is_refused_without_a_sweep() -> None:
    with session(), pytest.raises(Refused, match="put -m before the overrides"):
        command_of(["sweep.members_per_device=2"], is_multirun=False)
