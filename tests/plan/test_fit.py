"""What `auto` chooses from the memory estimate, and what a plan says fits."""

from collections.abc import Callable

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.plan.devices import given_hardware, planning_for
from r1exp.plan.fit import fit_lines
from r1exp.plan.speed import speed_lines
from r1exp.plan.steps import PlannedStep, planned_steps

Compose = Callable[..., Experiment]
LINE = ("stage=rl", "model=qwen2.5-1.5b", "evaluation.before=false", "evaluation.after=false", "tracking=none",
        "launcher.device=cuda", "rollout=vllm_colocate", "rollout.sleep=true", "max_completion_length=1024")  # fmt: skip
AUTO = ("model.rows_per_device.rl=auto", "model.gradient_checkpointing=auto")


def planned(compose_line: Compose, card: str, *overrides: str) -> PlannedStep:
    with planning_for(given_hardware(card, None)):
        (step,) = planned_steps(compose_line(*LINE, *overrides))
    return step


def test_a_larger_card_gets_more_rows_and_no_checkpointing_and_the_same_batch(compose_line: Compose) -> None:
    small, large = (planned(compose_line, card, *AUTO) for card in ("a100-40", "b200"))
    assert small.batch is not None and large.batch is not None
    assert small.batch.rows_per_device < large.batch.rows_per_device
    assert small.batch.rows_per_step == large.batch.rows_per_step == 256
    assert (small.trainer_args["gradient_checkpointing"], large.trainer_args["gradient_checkpointing"]) == (
        True,
        False,
    )
    assert small.key == large.key
    assert small.variant != large.variant


def test_numbers_that_are_given_stay(compose_line: Compose) -> None:
    step = planned(compose_line, "b200", "model.rows_per_device.rl=4")
    assert step.batch is not None
    assert (step.batch.rows_per_device, step.trainer_args["gradient_checkpointing"]) == (4, True)


def test_auto_is_refused_where_nothing_fits_or_the_memory_is_not_known(compose_line: Compose) -> None:
    with pytest.raises(Refused, match=r"one row in a pass needs.*launcher=zero3"):
        planned(compose_line, "a10", *AUTO)
    job = ("launcher=slurm", "launcher.gpus_per_node=1", "launcher.device=auto")
    with pytest.raises(Refused, match=r"memory of the devices.*rows_per_device\.sft=4"):
        planned(compose_line, "h100", *job, *AUTO)


def test_a_plan_says_how_many_rows_fit_and_which_launcher(compose_line: Compose) -> None:
    eight = ("launcher=zero3", "launcher.num_processes=8", "model=qwen3-8b")
    step = planned(compose_line, "h100", *eight)
    hardware = given_hardware("h100", "8")
    assert hardware is not None
    (line,) = fit_lines(step, hardware)
    assert "rows of a pass fit" in line
    assert "the cheapest launcher that fits is zero" in line
    alone = planned(compose_line, "a10")
    card = given_hardware("a10", "1")
    assert card is not None
    assert fit_lines(alone, card)[0].startswith("no row fits in a pass, and")


@pytest.mark.parametrize(
    ("model", "attention"),
    [
        pytest.param("qwen3-0.6b", "sdpa", id="without flash-attn"),
        pytest.param("gemma-2-2b-it", "eager", id="capped"),
    ],
)
def test_attention_is_chosen_by_the_model(compose_line: Compose, model: str, attention: str) -> None:
    step = planned(compose_line, "h100", f"model={model}", "model.attn_implementation=auto")
    assert step.config.model.attn_implementation == attention
    assert step.numerics["model.attn_implementation"] == attention


def test_a_plan_says_which_options_for_speed_are_on_and_why_not_the_others(compose_line: Compose) -> None:
    step = planned(compose_line, "h100", "beta=0", "launcher=zero2", "launcher.num_processes=2")
    hardware = given_hardware("h100", "2")
    assert hardware is not None
    text = "\n".join(speed_lines(step, hardware))
    for said in (
        "flash attention needs the package",
        "gradient checkpointing on",
        "algorithm.track_kl=false",
        "overlap_comm",
        "passes without padding (algorithm.short_passes)",
    ):
        assert said in text
    padded = planned(compose_line, "h100", "algorithm.short_passes=false")
    assert "algorithm.short_passes=true trims them" in "\n".join(speed_lines(padded, hardware))
    share = float(text.partition("gpu_memory_utilization=")[2].split()[0])
    assert 0.3 < share < 0.9
    awake = planned(compose_line, "h100", "rollout.sleep=false")
    assert any("rollout.sleep=true frees it" in line for line in speed_lines(awake, hardware))
