"""The tables of trainer arguments that do nothing name arguments that exist, and no recipe gives one."""

import pytest

from r1exp.algorithm.trainer_fields import OWNED, complaints, every_field, fields_of, usable_fields
from r1exp.algorithm.unused_arguments import _NEEDS, _UNUSED_BY, UNUSED


def test_every_argument_in_the_tables_exists_and_has_one_place() -> None:
    tables = [set(UNUSED), set(_UNUSED_BY), set(_NEEDS), set(OWNED)]
    assert set().union(*tables[:3]) <= every_field()
    assert sum(len(table) for table in tables) == len(set().union(*tables))
    assert {other for other, _ in _NEEDS.values()} <= usable_fields()


@pytest.mark.parametrize(
    ("trainer", "arguments", "is_refused"),
    [
        pytest.param("SFTConfig", {"label_smoothing_factor": 0.1}, False, id="SFT smooths labels"),
        pytest.param("GRPOConfig", {"label_smoothing_factor": 0.1}, True, id="GRPO does not"),
        pytest.param("GRPOConfig", {"loss_type": "sapo", "sapo_temperature_neg": 1.0}, False, id="SAPO"),
        pytest.param("GRPOConfig", {"sync_ref_model": False, "ref_model_sync_steps": 9}, True, id="no sync"),
        pytest.param("GRPOConfig", {"save_strategy": "no"}, False, id="no checkpoints"),
        pytest.param("GRPOConfig", {"log_completions": True}, False, id="TRL's table of completions"),
    ],
)
def test_an_argument_is_refused_where_nothing_reads_it(
    trainer: str, arguments: dict[str, object], is_refused: bool
) -> None:
    assert bool(complaints(trainer, arguments)) == is_refused


def test_no_argument_is_refused_for_a_trainer_that_does_not_have_it() -> None:
    for classes, _ in _UNUSED_BY.values():
        for trainer in classes:
            assert set(_UNUSED_BY) <= set(fields_of(trainer))
