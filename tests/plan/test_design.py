"""`sweep.design`: which members a sweep has."""

from pathlib import Path

import pytest

from r1exp.config.compose import session
from r1exp.errors import Refused
from r1exp.plan.design import Design
from r1exp.plan.members import command_of, design_of, members_of
from r1exp.plan.show import plan_text

THREE = ("rewards.graded.weight=0.5,1", "rewards.xml_count.weight=0,1", "beta=0,0.01")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def design(*arguments: str) -> Design | None:
    with session():
        return design_of(command_of(["stage=rl", *arguments], is_multirun=True))


def test_a_fraction_runs_with_every_seed() -> None:
    with session():
        command = command_of(["stage=rl", "sweep.design=fractional", *THREE, "seed=1,2"], is_multirun=True)
        chosen = [
            tuple(text.partition("=")[2] for text in member.arguments[2:]) for member in members_of(command)
        ]
    assert len(chosen) == 8 and len({each[:3] for each in chosen}) == 4
    assert {each[3] for each in chosen} == {"1", "2"}
    assert chosen[0][:3] == chosen[1][:3]


def test_the_design_names_its_factors_and_what_they_hide() -> None:
    found = design("sweep.design=fractional", *THREE)
    assert found is not None
    assert [factor.name for factor in found.factors] == ["graded.weight", "xml_count.weight", "beta"]
    assert found.resolution == 3 and "beta = graded.weight x xml_count.weight" in found.confounded()
    assert found.to_json()["factors"][2]["overrides"] == ["beta=0", "beta=0.01"]


def test_all_combinations_of_two_keys_are_a_full_design_and_seeds_are_no_factor() -> None:
    found = design(*THREE[:2], "seed=1,2")
    assert found is not None and found.kind == "full" and len(found.rows) == 4
    assert design("beta=0,0.01", "seed=1,2") is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(
            ["sweep.design=fractional", *THREE[:2]], "three or more. Type sweep.design=full", id="two factors"
        ),
        pytest.param(
            ["sweep.design=plackett_burman", *THREE[:2], "beta=0,0.01,0.02"],
            "Type two values of beta",
            id="three values",
        ),
        pytest.param(
            ["sweep.design=latin", *THREE[:2]], "three factors with as many values each", id="latin"
        ),
        pytest.param(["sweep.design=fractional", "seed=1,2"], "List values: -m", id="no factor"),
        pytest.param(["sweep.resolution=4", *THREE], "type sweep.design=fractional", id="resolution of all"),
        pytest.param(["sweep.design=halb", *THREE], "sweep.design", id="no such design"),
    ],
)
def test_factors_that_do_not_fit_are_refused_with_what_to_type(arguments: list[str], said: str) -> None:
    with session(), pytest.raises(Refused) as refused:
        members_of(command_of(["stage=rl", *arguments], is_multirun=True))
    assert said in str(refused.value)


def test_the_screen_shows_the_design_and_what_it_can_see() -> None:
    text = plan_text(["stage=rl", "sweep.design=fractional", *THREE], is_multirun=True)
    assert "fractional: 4 of 8 combinations, resolution 3, generators a b ab" in text
    assert "confounded: graded.weight = xml_count.weight x beta" in text
