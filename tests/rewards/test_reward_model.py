import math
from typing import Any

import pytest

from r1exp.errors import R1ExpError
from r1exp.rewards.base import Score
from r1exp.rewards.reward_model import NOT_FINITE, RewardModel
from r1exp.rewards.strict import Strict


@pytest.mark.parametrize(
    ("settings", "logit", "expected"),
    [
        pytest.param({}, 0.0, 0.5, id="sigmoid at the center"),
        pytest.param({}, math.log(3.0), 0.75, id="sigmoid of log 3"),
        pytest.param({}, -1000.0, 0.0, id="sigmoid far down does not overflow"),
        pytest.param({"center": 2.0, "scale": 4.0, "normalization": "none"}, 10.0, 2.0, id="standardized"),
        pytest.param({}, math.nan, NOT_FINITE, id="NaN"),
    ],
)
def test_the_logit_becomes_a_score(settings: dict[str, Any], logit: float, expected: Score) -> None:
    score = RewardModel(model="m", **settings).normalized(logit)
    assert score == expected if expected == NOT_FINITE else score == pytest.approx(expected)


def test_a_committee_without_an_opener_says_where_the_model_is_loaded() -> None:
    with pytest.raises(R1ExpError, match="loaded by the training process"):
        RewardModel(model="m").open()


def test_a_reward_declares_the_models_that_it_reads() -> None:
    assert RewardModel(model="someone/scorer").other_models() == {"model": "someone/scorer"}
    assert Strict(style="plain").other_models() == {}
