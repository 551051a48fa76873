"""The memory estimate of a plan depends on the algorithm and the launcher."""

from collections.abc import Callable

import pytest

from r1exp.config.experiment import Experiment
from r1exp.plan.memory_report import MemoryReport
from r1exp.plan.steps import planned_steps

COMMON = ("stage=rl", "evaluation.before=false", "evaluation.after=false", "tracking=none")


@pytest.fixture
def part(compose_line: Callable[..., Experiment]) -> Callable[..., str]:
    """Return a function that returns one part of the estimate of an RL step, for example `critic`."""

    def read(name: str, *overrides: str) -> str:
        (step,) = planned_steps(compose_line(*COMMON, *overrides))
        line = next(line for line in MemoryReport().lines(step) if "memory per device" in line)
        return line.partition(f"{name} ")[2].partition(",")[0]

    return read


def test_a_separate_critic_is_counted_and_a_shared_one_is_not(part: Callable[..., str]) -> None:
    assert part("critic", "algorithm=ppo") == "7.1 MB"  # 590,465 numbers: weights and two moments in float32
    assert part("critic", "algorithm=ppo", "algorithm.critic.path=someone/never-downloaded") == "7.1 MB"
    assert part("critic", "algorithm=ppo", "algorithm.critic.kind=shared") == "0 B"
    assert part("critic", "algorithm=grpo") == "0 B"


def test_zero_partitions_the_optimizer_states(part: Callable[..., str]) -> None:
    alone = part("optimizer", "algorithm=grpo")
    shared = part("optimizer", "algorithm=grpo", "launcher=zero1", "launcher.num_processes=4")
    assert (alone, shared) == ("4.7 MB", "1.8 MB")  # 590,336 numbers: 8 bytes each; 12 bytes over 4 ranks
