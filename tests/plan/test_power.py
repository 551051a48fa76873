"""The power of a sweep: from earlier runs of the same kind, or from priors."""

import json
import random
from pathlib import Path

import pytest

from r1exp.config.compose import session
from r1exp.plan.members import Member, command_of, design_of, members_of
from r1exp.plan.power import Forecast, forecast
from r1exp.plan.show import plan_text
from r1exp.plan.steps import run_plan

LINE = ("stage=rl", "evaluation.num_problems=200", "max_steps=20")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def planned(*arguments: str) -> tuple[Forecast | str, list[Member]]:
    with session():
        command = command_of([*LINE, *arguments], is_multirun=True)
        members = members_of(command)
        return forecast(members, design_of(command)), members


def write_run(folder: Path, member: Member, rate: float, number: int) -> None:
    """Write what a finished run leaves of its answers."""
    draw = random.Random(number)
    label = member.steps[-1].label
    scores = {
        "problem_ids": [str(problem) for problem in range(100)],
        "outcomes": {"sampled": [[draw.random() < rate] for _ in range(100)]},
    }
    summary = {"state": "done", "objective_of": f"{label} sampled", "scores": {label: "scores.json"}}
    folder.mkdir(parents=True)
    run_plan(member.experiment, member.steps).write(folder)
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "scores.json").write_text(json.dumps(scores))


def test_without_runs_the_priors_are_used_and_said() -> None:
    found, _ = planned("beta=0,0.01", "seed=1,2,3")
    assert isinstance(found, Forecast)
    assert found.size.seeds == 3 and found.size.problems == 200 and found.size.comparisons == 1
    lines = list(found.lines())
    assert (
        lines[0].startswith("80 %: a difference of ") and "3 seeds, 200 problems, 1 answer each" in lines[0]
    )
    assert lines[1].startswith("to see 3 points: ") and " seeds" in lines[1]
    assert lines[2].startswith("assumed (sweep.power)") and "seeds differ by 2 points" in lines[2]
    assert found.to_json()["size"]["seeds"] == 3


def test_earlier_runs_of_the_same_model_data_and_evaluation_are_used() -> None:
    _, members = planned("beta=0,0.01", "seed=1,2")
    for number, member in enumerate(members):
        shift = 0.1 * (number % 2)  # seeds differ by 10 points
        write_run(Path("runs/2026-01-01/a-sweep") / str(number), member, 0.4 + shift, number)
    found, _ = planned("beta=0,0.02")
    assert isinstance(found, Forecast)
    assert (found.estimate.runs, found.estimate.settings, found.estimate.pairs) == (4, 2, 1)
    assert "from 4 runs of 2 settings (2026-01-01/a-sweep/" in list(found.lines())[-1]
    other, _ = planned("beta=0,0.02", "evaluation.temperature=0.5")
    longer, _ = planned("beta=0,0.02", "max_steps=200")
    assert isinstance(other, Forecast) and isinstance(longer, Forecast)
    assert other.estimate.runs == 0 and longer.estimate.runs == 0


def test_one_seed_compares_models_and_seeds_alone_compare_nothing() -> None:
    found, _ = planned("beta=0,0.01")
    assert isinstance(found, Forecast)
    assert any("one seed compares models" in line for line in found.lines())
    assert "differ in nothing but seeds" in str(planned("seed=1,2")[0])


def test_more_seeds_see_smaller_differences_and_enough_is_said() -> None:
    few, members = planned("beta=0,0.01", "seed=1,2")
    more, _ = planned("beta=0,0.01", "seed=1,2,3", "sweep.power.target=90")
    assert isinstance(few, Forecast) and isinstance(more, Forecast)
    assert more.smallest < few.smallest
    assert "this is enough" in list(more.lines())[1]
    assert members[0].experiment.run.sweep.power.target == 3.0


def test_the_plan_of_a_sweep_shows_its_power() -> None:
    text = plan_text([*LINE, "beta=0,0.01"], is_multirun=True)
    assert "\npower     80 %: a difference of " in text
