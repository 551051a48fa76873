"""Corrections for several comparisons."""

import pytest

from r1exp.statistics.several import holm


def test_holms_correction_equals_the_definition() -> None:
    # 4 * 0.005, 3 * 0.01, 2 * 0.03, and 0.04, which must not be smaller than the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
