"""Tests of the settings of evaluations during training, and of what they are in a step's key and in the plan."""

from collections.abc import Callable

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.plan.facts import facts_of
from r1exp.plan.screen import during_training
from r1exp.plan.steps import PlannedStep, planned_steps

Compose = Callable[..., Experiment]
RL = ("stage=rl", "evaluation.before=false", "evaluation.after=false", "max_steps=50")


def only(compose_line: Compose, *overrides: str) -> PlannedStep:
    (step,) = planned_steps(compose_line(*RL, *overrides))
    return step


def test_a_training_is_evaluated_at_the_start_at_every_nth_optimizer_step_and_at_the_end(
    compose_line: Compose,
) -> None:
    evaluation = only(compose_line, "evaluation.every=20").config.evaluation
    assert evaluation.evaluated_at(50) == [0, 20, 40, 50]
    assert evaluation.evaluated_at(40) == [0, 20, 40]
    assert only(compose_line).config.evaluation.evaluated_at(50) == []


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        pytest.param(["evaluation.keep_best=greedy"], "needs evaluations during training", id="never"),
        pytest.param(["evaluation.every=5", "evaluation.num_validation=0"], "num_validation=0 keeps none", id="no problems"),
        pytest.param(
            ["evaluation.every=5", "evaluation.greedy=false", "evaluation.keep_best=greedy"],
            "set evaluation.greedy=true", id="an accuracy that is not measured",
        ),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(
    overrides: list[str], says: str, compose_line: Compose
) -> None:
    with pytest.raises(Refused, match=says):
        only(compose_line, *overrides)


def test_the_held_out_problems_are_in_the_key_and_evaluating_alone_is_not(compose_line: Compose) -> None:
    whole = only(compose_line)
    held_out = only(compose_line, "evaluation.num_validation=100")
    assert whole.num_problems == 10000 and held_out.num_problems == 9900
    assert whole.key != held_out.key
    every = [
        only(compose_line, "evaluation.num_validation=100", f"evaluation.every={n}").key for n in (5, 10)
    ]
    assert {*every} == {held_out.key}


def test_what_decides_the_kept_model_is_in_the_key(compose_line: Compose) -> None:
    base = ["evaluation.every=10", "evaluation.keep_best=greedy"]
    changes = [
        "",
        "evaluation.every=5",
        "evaluation.keep_best=sampled",
        "evaluation.max_tokens=30",
        "evaluation.judge=strict",
    ]
    keys = {only(compose_line, *base, *([change] if change else [])).key for change in changes}
    assert len(keys) == len(changes)


def test_a_rule_that_ends_training_makes_its_evaluations_part_of_the_key(compose_line: Compose) -> None:
    rule = "health.rules.no_improvement.action=finish"
    keys = [only(compose_line, f"evaluation.every={n}", rule).key for n in (5, 10)]
    assert keys[0] != keys[1]


def test_an_evaluation_does_not_read_them(compose_line: Compose) -> None:
    keys = [
        planned_steps(compose_line("stage=evaluate", *more))[0].key
        for more in (
            (),
            ("evaluation.every=5", "evaluation.keep_best=greedy", "evaluation.num_validation=50"),
        )
    ]
    assert keys[0] == keys[1]


def test_the_plan_shows_what_they_cost(compose_line: Compose) -> None:
    step = only(
        compose_line, "evaluation.every=20", "evaluation.num_validation=100", "evaluation.keep_best=greedy"
    )
    assert during_training([step]) == (
        "grpo during training, 4 x on 100 validation problems x 2 = 800 completions (training: 12,800); keeps the model "
        "with the best greedy accuracy"
    )
    assert during_training([only(compose_line)]) is None


def test_the_plan_names_a_step_that_cannot_be_evaluated(compose_line: Compose, tmp_path: object) -> None:
    pairs = f"{tmp_path}/pairs.jsonl"
    with open(pairs, "w", encoding="utf-8") as file:  # noqa: PTH123 # one line
        file.writelines(f'{{"prompt": "{n}?", "chosen": "a", "rejected": "b"}}\n' for n in range(200))
    line = (
        "stage=rl",
        "algorithm=dpo",
        "dataset=preference",
        f"dataset.path={pairs}",
        "evaluation.every=5",
        "paths.store=x",
    )
    experiment = compose_line(*line)
    steps = planned_steps(experiment)
    assert any("not evaluated during training" in text for text in facts_of(experiment, steps, None).odd)
