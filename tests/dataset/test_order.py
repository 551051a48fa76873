"""The order of training rows: a curriculum, the same in every epoch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1exp.config.experiment import Experiment
from r1exp.dataset.order import Order, ordered
from r1exp.errors import Refused
from r1exp.plan.steps import planned_steps
from r1exp.records import Problem

Compose = Callable[..., Experiment]


def problem(name: str, **columns: Any) -> Problem:
    return Problem(name, "x" * len(name), "1", columns)


ROWS = [
    problem("aa", pass_rate=0.5, level=3, solution="long enough"),
    problem("b", pass_rate=1.0, level="1", solution="short"),
    problem("ccc", pass_rate=0.5, level=2),
]


@pytest.mark.parametrize(
    ("order", "column", "expected"),
    [
        pytest.param(None, None, ["aa", "b", "ccc"], id="the data's own"),
        pytest.param(
            "pass_rate", None, ["b", "aa", "ccc"], id="most often solved first, equal ones as they are"
        ),
        pytest.param("pass_rate", "level", ["aa", "ccc", "b"], id="another column of shares"),
        pytest.param("easy_first", "level", ["b", "ccc", "aa"], id="lowest number first, text or number"),
        pytest.param("easy_first", None, ["ccc", "b", "aa"], id="shortest first"),
    ],
)
def test_rows_come_in_the_order(order: Order | None, column: str | None, expected: list[str]) -> None:
    assert [row.id for row in ordered(ROWS, order, column, seed=1)] == expected


def test_a_random_order_follows_from_the_seed() -> None:
    rows = [problem(str(number)) for number in range(20)]
    first, again, other = ([row.id for row in ordered(rows, "random", None, seed)] for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(first) == sorted(row.id for row in rows) != first


@pytest.mark.parametrize(
    ("column", "message"),
    [
        pytest.param(
            "pas_rate", r"'pas_rate', which in problem 'aa' is not there.*order_by=pass_rate\?", id="misspelt"
        ),
        pytest.param("solution", "holds 'long enough'", id="no number"),
    ],
)
def test_a_column_without_numbers_is_refused(column: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        list(ordered(ROWS, "easy_first", column, seed=1))


def keys(compose_line: Compose, *overrides: str) -> dict[str, str]:
    return {step.name: step.key for step in planned_steps(compose_line(*overrides))}


def test_an_order_decides_training_and_nothing_else(
    compose_line: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shuffled, in_order, random = (
        planned_steps(compose_line(*more))
        for more in ((), ("dataset.order=easy_first",), ("dataset.order=random",))
    )
    assert shuffled[0].key == in_order[0].key  # the evaluation before training
    for number in (1, 3):
        assert len({steps[number].key for steps in (shuffled, in_order, random)}) == 3
    assert in_order[1].trainer_args["train_sampling_strategy"] == "sequential"
    assert in_order[3].trainer_args["shuffle_dataset"] is False
    assert shuffled[3].trainer_args["shuffle_dataset"] is True


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(["stage=sft", "dataset.order=pass_rate"], "pipeline=filtered_grpo", id="no such column"),
        pytest.param(["stage=sft", "dataset.order_by=level"], "give dataset.order=easy_first", id="a column alone"),
        pytest.param(["stage=sft", "dataset.order=random", "trainer.packing=true"], "leave one of the two", id="packing"),
        pytest.param(
            ["stage=reward_model", "dataset=preference", "dataset.path=pairs.jsonl", "+dataset.order=random"],
            "learns from pairs, which are shuffled",
            id="pairs",
        ),
    ],
)  # fmt: skip
def test_an_order_that_cannot_be_kept_is_refused(
    overrides: list[str], message: str, compose_line: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match=message):
        planned_steps(compose_line(*overrides))
