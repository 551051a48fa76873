"""`debug` cuts every step, and leaves what was typed and every other run alone."""

from collections.abc import Callable

import pytest

from r1exp.config.experiment import Experiment
from r1exp.plan.steps import planned_steps
from r1exp.stage.config import StepConfig

Compose = Callable[..., Experiment]


def steps_of(experiment: Experiment) -> dict[str, StepConfig]:
    return {step.name: step.config for step in planned_steps(experiment)}


def test_debug_cuts_steps_batches_generations_lengths_and_rows_of_every_step(compose_line: Compose) -> None:
    steps = steps_of(compose_line("debug=fast", "pipeline=rlhf_ppo"))
    for config in steps.values():
        assert (config.max_completion_length, config.evaluation.max_tokens) == (32, 32)
        assert config.max_steps in (None, 2)
        assert config.num_generations in (None, 4)
        assert config.evaluation.num_problems == 16
    assert steps["sft"].rows.number == steps["reward_model"].rows.number == 4
    assert steps["ppo"].rows.number == 4 * 4
    assert steps["sft"].model_dump()["dataset"]["num_train"] == 256
    sample = steps["sample"].model_dump()["stage"]
    assert (sample["samples"], sample["num_problems"]) == (4, 40)


def test_what_is_typed_wins_over_debug_where_it_applies(compose_line: Compose) -> None:
    typed = ["max_steps=20", "max_completion_length=100", "pipeline.steps.sft.set.stage.rows_per_step=48"]
    steps = steps_of(compose_line("debug=fast", "evaluation.num_problems=50", *typed))
    assert (steps["sft"].max_steps, steps["rl"].max_steps) == (2, 20)
    assert {config.max_completion_length for config in steps.values()} == {100}
    assert {config.evaluation.max_tokens for config in steps.values()} == {100}
    assert {config.evaluation.num_problems for config in steps.values()} == {50}
    assert steps["sft"].rows.number == 48


def test_debug_wins_over_experiments(compose_line: Compose) -> None:
    steps = steps_of(compose_line("debug=fast", "experiment=rlhf_sums"))
    assert {config.max_steps for config in steps.values()} == {None, 2}


def test_a_shortened_batch_is_shared_by_all_ranks(compose_line: Compose) -> None:
    steps = steps_of(compose_line("debug=fast", "launcher=ddp", "launcher.num_processes=16"))
    assert steps["sft"].rows.number == 16


@pytest.mark.parametrize("typed", [(), ("pipeline=dpo_from_rewards",), ("algorithm=ppo",)], ids=str)
def test_a_run_without_debug_is_not_changed(typed: tuple[str, ...], compose_line: Compose) -> None:
    for config in steps_of(compose_line(*typed)).values():
        assert (config.debug.max_steps, config.debug.num_problems) == (None, None)
        assert config.evaluation.num_problems is None
