"""Advantages that an algorithm's own class defines."""

from collections.abc import Callable
from typing import Any

import pytest

from r1exp.algorithm.rloo import Rloo
from r1exp.config.experiment import Experiment


class Centered(Rloo):
    def advantages(self, rewards: Any, num_generations: int) -> Any:
        return rewards


def test_advantages_that_the_trainer_would_not_call_are_refused(
    compose_line: Callable[..., Experiment],
) -> None:
    rloo = compose_line("stage=rl", "algorithm=rloo").steps[0].config.algorithm
    assert rloo is not None
    with pytest.raises(ValueError, match=r"derive the class from r1exp\.algorithm\.grpo:Grpo"):
        Centered.model_validate(rloo.model_dump()).check(0.005, {})
    rloo.check(0.005, {})
