"""What the members of a sweep ask for again is computed once."""

from functools import partial
from typing import Any

import pytest

from r1exp.plan.show import plan_text
from r1exp.stage import base, sft
from r1exp.stage.recent import Recent


def test_the_values_asked_for_last_are_kept() -> None:
    computed = []

    def square(number: int) -> int:
        computed.append(number)
        return number**2

    recent: Recent[int] = Recent(2)
    found = [recent.get(number, partial(square, number)) for number in (3, 3, 4, 3, 5, 3, 4)]
    assert found == [9, 9, 16, 9, 25, 9, 16]
    assert computed == [3, 4, 5, 4]


def test_a_value_that_cannot_be_computed_is_asked_for_again() -> None:
    recent: Recent[float] = Recent(2)
    with pytest.raises(ZeroDivisionError):
        recent.get("a", lambda: 1 / 0)
    assert recent.get("a", lambda: 7.0) == 7.0


def test_a_plan_of_a_sweep_reads_the_rows_of_a_data_set_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def count(module: Any, name: str) -> None:
        plain = getattr(module, name)

        def counted(*given: Any, **more: Any) -> Any:
            read.append(name)
            return plain(*given, **more)

        monkeypatch.setattr(module, name, counted)

    count(base, "training_problems")
    count(sft, "FittingRows")
    # Two SFT steps, of other rows, and RL: with `evaluation.every` each step counts what is left to train on.
    own = ("dataset.num_train=2100", "evaluation.num_validation=190")  # as in no other test
    plan_text(["experiment=claims", "pipeline=reward_ablation", *own, "seed=1,2,3"], is_multirun=True)
    assert read.count("FittingRows") == 2
    assert read.count("training_problems") <= 5
