"""What the members of a sweep ask for again is computed once."""

import pytest

from r1exp.plan.show import plan_text
from r1exp.stage import base, sft
from r1exp.stage.recent import Recent


def test_the_values_asked_for_last_are_kept() -> None:
    computed = []

    def square(number: int) -> int:
        return recent.get(number, lambda: computed.append(number) or number**2)

    recent: Recent[int] = Recent(2)
    assert [square(number) for number in (3, 3, 4, 3, 5, 3, 4)] == [9, 9, 16, 9, 25, 9, 16]
    assert computed == [3, 4, 5, 4]


def test_a_value_that_cannot_be_computed_is_asked_for_again() -> None:
    recent: Recent[int] = Recent(2)
    with pytest.raises(ZeroDivisionError):
        recent.get("a", lambda: 1 // 0)
    assert recent.get("a", lambda: 7) == 7


def test_a_plan_of_a_sweep_reads_the_rows_of_a_data_set_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    for module, name in ((base, "training_problems"), (sft, "FittingRows")):
        monkeypatch.setattr(
            module, name, lambda *given, plain=getattr(module, name), name=name, **more: read.append(name) or plain(*given, **more)
        )  # fmt: skip
    # Two SFT steps, of other rows, and RL: with `evaluation.every` each step counts what is left to train on.
    plan_text(
        ["experiment=claims", "pipeline=reward_ablation", "dataset.num_train=2100", "evaluation.num_validation=190", "seed=1,2,3"],
        is_multirun=True,
    )  # fmt: skip
    assert read.count("FittingRows") == 2
    assert read.count("training_problems") <= 5
