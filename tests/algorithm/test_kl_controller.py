import json

import pytest

from r1exp.algorithm.kl_controller import KlController, KlSettings

ADAPTIVE = KlSettings(target=0.1, rate=0.1, limit=0.2)


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        pytest.param(0.1, 0.01, id="on target"),
        pytest.param(0.11, 0.01 * 1.01, id="a tenth too much"),
        pytest.param(0.09, 0.01 * 0.99, id="a tenth too little"),
        pytest.param(5.0, 0.01 * 1.02, id="far too much: clipped"),
        pytest.param(0.0, 0.01 * 0.98, id="none: clipped"),
        pytest.param(float("nan"), 0.01, id="not a number"),
        pytest.param(float("inf"), 0.01, id="infinite"),
    ],
)
def test_adaptive_beta_changes_by_the_error(kl: float, expected: float) -> None:
    controller = KlController(ADAPTIVE, beta=0.01)
    controller.observe(kl)
    assert controller.beta == pytest.approx(expected, rel=1e-12)


def test_without_a_target_beta_is_constant() -> None:
    controller = KlController(KlSettings(target=None, rate=0.1, limit=0.2), beta=0.01)
    controller.observe(5.0)
    assert controller.beta == 0.01


def test_a_restored_controller_continues_bit_for_bit() -> None:
    whole = KlController(ADAPTIVE, beta=0.01)
    for kl in (0.13, 0.07, 0.3):
        whole.observe(kl)
    resumed = KlController(ADAPTIVE, beta=0.01)
    resumed.restore(json.loads(json.dumps(whole.state())))
    for controller in (whole, resumed):
        controller.observe(0.093)
    assert resumed.beta == whole.beta


def test_an_adaptive_beta_brings_the_kl_of_a_policy_to_the_target() -> None:
    controller = KlController(ADAPTIVE, beta=1.0)
    for _ in range(2000):
        controller.observe(0.002 / controller.beta)  # a policy whose KL falls as beta rises
    assert controller.beta == pytest.approx(0.02, rel=0.02)
