import json
import math

import pytest

from r1exp.algorithm.steadiness import Steadiness


def after(*norms: float) -> Steadiness:
    """Return what was observed of a training with these norms of the gradient, from optimizer step 1."""
    steadiness = Steadiness()
    for step, norm in enumerate(norms, 1):
        steadiness.observe(step, {"grad_norm": norm})
    return steadiness


@pytest.mark.parametrize(
    ("norms", "since"),
    [
        pytest.param([1.0, 9.0, 10.0, 9.0, 80.0, 1.0], None, id="below ten times the median"),
        pytest.param([1.0, 2.0, 21.0, 1.0, 300.0], 3, id="out of range, and not yet over"),
        pytest.param([1.0, 2.0, 21.0, *[1.0] * 5], None, id="over after five steps"),
        pytest.param([1.0, 2.0, 21.0, *[1.0] * 5, 500.0, 900.0], 9, id="a second trouble counts from its own start"),
        pytest.param([1.0, 2.0, math.nan], 3, id="not finite"),
        pytest.param([6.0, 6.0, 30.0, 75.0, 110.0, 200.0], 4, id="growing from the start"),
        pytest.param([0.0, 0.0, 1.1, 0.9], 3, id="a gradient of 0 at the start counts as 0.1"),
        pytest.param([1.0, *[50.0] * 99], 2, id="out of range for long"),
        pytest.param([1.0, *[50.0] * 106], None, id="a new range after a hundred steps"),
    ],
)  # fmt: skip
def test_trouble_begins_with_the_first_step_out_of_range(norms: list[float], since: int | None) -> None:
    assert after(*norms).since == since


def test_the_weights_of_a_checkpoint_are_judged_by_the_step_after_it() -> None:
    assert after(1.0, 1.0, 1.0).last_good is None
    assert after(1.0, 1.0, 1.0, 99.0).last_good == 2  # the loss of step 4 is that of the weights after step 3


def test_a_resumed_training_goes_on_with_the_same_range() -> None:
    whole = after(*[1.0] * 7, 50.0, 1.0)
    resumed = Steadiness()
    resumed.restore(json.loads(json.dumps(whole.state())))
    for steadiness in (whole, resumed):
        steadiness.observe(10, {"grad_norm": 60.0, "loss": 3.0})
    assert resumed.state() == whole.state()
    assert resumed.since == 8
