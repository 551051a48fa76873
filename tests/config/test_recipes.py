"""Every algorithm's composed configuration states the trainer fields that decide its results.

A field that is left out would take upstream's default, which may change with a release. The recipes in
conf/algorithm/ share bases in conf/algorithm/base/, so the composed values are tested, not the files.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.algorithm.trainer_fields import fields_of
from r1exp.config.compose import groups
from r1exp.config.experiment import Experiment

Compose = Callable[..., Experiment]
CONF = Path(__file__).parents[2] / "conf"
OPTIMIZATION = {
    "disable_dropout",
    "gradient_checkpointing",
    "logging_steps",
    "lr_scheduler_type",
    "max_grad_norm",
    "save_steps",
    "save_total_limit",
    "warmup_steps",
    "weight_decay",
}
ONLINE = OPTIMIZATION | {
    "epsilon",
    "epsilon_high",
    "mask_truncated_completions",
    "num_iterations",
    "shuffle_dataset",
    "top_k",
    "top_p",
}
GRPO = ONLINE | {
    "importance_sampling_level",
    "loss_type",
    "multi_objective_aggregation",
    "scale_rewards",
    "use_bias_correction_kl",
}
RLOO = ONLINE | {"normalize_advantages", "reward_clip_range"}
DPO = OPTIMIZATION | {
    "f_divergence_type",
    "label_smoothing",
    "loss_type",
    "max_length",
    "precompute_ref_log_probs",
}
KTO = OPTIMIZATION | {
    "desirable_weight",
    "loss_type",
    "max_length",
    "precompute_ref_log_probs",
    "undesirable_weight",
}
DECIDING = {  # by recipe; the others run on TRL's GRPOTrainer
    "rloo": RLOO,
    "dpo": DPO,
    "ipo": DPO - {"label_smoothing"},
    "simpo": OPTIMIZATION | {"loss_type", "max_length"},
    "kto": KTO,
    "cispo": GRPO - {"epsilon"},
    "sapo": GRPO - {"epsilon"} | {"sapo_temperature_neg", "sapo_temperature_pos"},
}
DAILY = ("beta", "learning_rate", "max_steps")
DAILY_ONLINE = ("num_generations", "temperature", "max_completion_length")
RECIPES = sorted(path.stem for path in (CONF / "algorithm").glob("*.yaml"))
OFFLINE = ("dpo", "ipo", "kto", "simpo")
NEEDS = {name: ["dataset=preference"] for name in OFFLINE}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_states_every_trainer_field_that_decides_its_results(
    name: str, compose_line: Compose
) -> None:
    config = compose_line("stage=rl", f"algorithm={name}", *NEEDS.get(name, [])).steps[0].config
    assert DECIDING.get(name, GRPO) - config.trainer.keys() == set()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_states_every_daily_setting_that_its_algorithm_reads(
    name: str, compose_line: Compose
) -> None:
    config = compose_line("stage=rl", f"algorithm={name}", *NEEDS.get(name, [])).steps[0].config
    names = DAILY if name in OFFLINE else DAILY + DAILY_ONLINE
    assert [name for name in names if getattr(config, name) is None] == []


def test_grpo_does_not_correct_its_kl(compose_line: Compose) -> None:
    config = compose_line("stage=rl", "algorithm=grpo").steps[0].config
    assert config.trainer["use_bias_correction_kl"] is False  # changes the loss, because beta is not 0


@pytest.mark.parametrize(
    ("trainer_class", "deciding"),
    [("GRPOConfig", GRPO), ("RLOOConfig", RLOO), ("DPOConfig", DPO), ("KTOConfig", KTO)],
)
def test_the_deciding_fields_are_arguments_of_the_trainer(trainer_class: str, deciding: set[str]) -> None:
    assert deciding - fields_of(trainer_class).keys() == set()


def test_a_base_is_not_an_option(compose_line: Compose) -> None:
    assert list((CONF / "algorithm" / "base").glob("*.yaml"))
    assert groups()["algorithm"] == RECIPES
