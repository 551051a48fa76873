"""Batch sizes of a step, and what `plan` shows of them."""

from collections.abc import Callable

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.plan.batch import RlBatch
from r1exp.plan.full import full_text
from r1exp.plan.steps import planned_steps

Compose = Callable[..., Experiment]
RL = ("stage=rl", "evaluation.before=false", "evaluation.after=false")


def rl_batch(compose_line: Compose, *overrides: str) -> RlBatch:
    (step,) = planned_steps(compose_line(*RL, *overrides))
    assert isinstance(step.batch, RlBatch)
    return step.batch


def test_the_rows_of_an_optimizer_step_do_not_depend_on_the_number_of_ranks(compose_line: Compose) -> None:
    alone = rl_batch(compose_line, "model.rows_per_device.rl=64", "launcher=local")
    shared = rl_batch(compose_line, "model.rows_per_device.rl=64", "launcher=ddp")
    assert (alone.rows_per_step, alone.rows_per_device, alone.accumulation) == (256, 64, 4)
    assert (shared.rows_per_step, shared.rows_per_device, shared.accumulation) == (256, 64, 2)


def test_a_forward_pass_has_the_largest_number_of_rows_that_fits_and_divides(compose_line: Compose) -> None:
    assert rl_batch(compose_line, "model.rows_per_device.rl=100").rows_per_device == 64


def test_an_epoch_has_whole_generation_batches_and_drops_the_other_rows(compose_line: Compose) -> None:
    batch = rl_batch(compose_line, "dataset.num_train=1000")
    assert (batch.prompts_per_step, batch.steps_per_epoch, batch.rows_dropped) == (32, 31, 8)


def test_a_group_larger_than_the_rows_of_a_rank_is_split(compose_line: Compose) -> None:
    overrides = ("launcher=ddp", "launcher.num_processes=4", "algorithm.prompts_per_step=2")
    assert rl_batch(compose_line, *overrides).is_split
    assert not rl_batch(compose_line, "launcher=ddp").is_split


def test_several_optimizer_steps_on_one_generation_batch_are_off_policy(compose_line: Compose) -> None:
    assert rl_batch(compose_line).is_on_policy
    assert not rl_batch(compose_line, "trainer.num_iterations=2").is_on_policy


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(
            ("launcher=ddp", "launcher.num_processes=3"),
            r"share equally; type algorithm\.prompts_per_step=30 or 33, or launcher\.num_processes=2$",
            id="ranks",
        ),
        pytest.param(
            ("launcher=ddp", "launcher.num_processes=24", "algorithm.prompts_per_step=4"),
            r"type algorithm\.prompts_per_step=3 or 6, or launcher\.num_processes=16$",
            id="ranks that share groups",
        ),
        pytest.param(("dataset.num_train=16",), "fewer than the 32 prompts", id="too few prompts"),
    ],
)
def test_batches_that_do_not_divide_are_refused(
    overrides: tuple[str, ...], message: str, compose_line: Compose
) -> None:
    with pytest.raises(Refused, match=message):
        rl_batch(compose_line, *overrides)


def test_debug_limits_every_training_step(compose_line: Compose) -> None:
    steps = planned_steps(compose_line("debug=fast"))
    assert [step.batch.num_steps for step in steps if step.batch is not None] == [2, 2]


def test_a_plan_in_full_shows_values_origins_batches_memory_and_commands(compose_line: Compose) -> None:
    experiment = compose_line("beta=0.01", "launcher=ddp")
    text = full_text(experiment, planned_steps(experiment))
    for part in (
        "beta: 0.01", "# beta=0.01", "# algorithm/grpo.yaml", "beta=0.01: rl\n",
        "launcher=ddp: evaluate-pre-sft, sft", "32 prompts x 8 completions per optimizer step", "groups whole on their rank",
        "steps per epoch", "problems dropped per epoch", "on-policy", "memory per device", "gradients", "optimizer",
        "reference", "sampling", "-m r1exp.worker", "RUN/steps/04-rl", "distributed_type: MULTI_GPU",
    ):  # fmt: skip
        assert part in text, part
