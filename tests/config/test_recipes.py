"""Every algorithm's composed configuration states the trainer fields that decide its results.

A field that is left out would take upstream's default, which may change with a release. The recipes in
conf/algorithm/ share bases in conf/algorithm/base/, so the composed values are tested, not the files.
"""

from collections.abc import Callable

import pytest

from r1exp.algorithm.trainer_fields import fields_of
from r1exp.config.assets import CONF
from r1exp.config.compose import groups
from r1exp.config.experiment import Experiment

Compose = Callable[..., Experiment]
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
DECIDING = {  # trainer class -> the fields that decide what a run on it learns
    "GRPOConfig": ONLINE
    | {"importance_sampling_level", "loss_type", "multi_objective_aggregation", "scale_rewards"},
    "RLOOConfig": ONLINE | {"normalize_advantages", "reward_clip_range"},
    "DPOConfig": OPTIMIZATION
    | {"f_divergence_type", "label_smoothing", "loss_type", "max_length", "precompute_ref_log_probs"},
}
DAILY = ("beta", "learning_rate", "max_steps")
DAILY_ONLINE = ("num_generations", "temperature", "max_completion_length")
RECIPES = sorted(path.stem for path in (CONF / "algorithm").glob("*.yaml"))
NEEDS = {"dpo": ["dataset=preference"]}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_states_every_trainer_field_that_decides_its_results(
    name: str, compose_line: Compose
) -> None:
    config = compose_line("stage=rl", f"algorithm={name}", *NEEDS.get(name, [])).steps[0].config
    assert config.algorithm is not None
    assert DECIDING[config.algorithm.trainer_class] - config.trainer.keys() == set()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_states_every_daily_setting_that_its_algorithm_reads(
    name: str, compose_line: Compose
) -> None:
    config = compose_line("stage=rl", f"algorithm={name}", *NEEDS.get(name, [])).steps[0].config
    names = DAILY if name == "dpo" else DAILY + DAILY_ONLINE
    assert [name for name in names if getattr(config, name) is None] == []


def test_grpo_states_whether_its_kl_is_corrected(compose_line: Compose) -> None:
    config = compose_line("stage=rl", "algorithm=grpo").steps[0].config
    assert config.trainer["use_bias_correction_kl"] is False  # decides the loss, since beta is not 0


@pytest.mark.parametrize("trainer_class", DECIDING)
def test_the_deciding_fields_are_arguments_of_the_trainer(trainer_class: str) -> None:
    assert DECIDING[trainer_class] - set(fields_of(trainer_class)) == set()


def test_a_base_is_no_option(compose_line: Compose) -> None:
    assert list((CONF / "algorithm" / "base").glob("*.yaml"))
    assert groups()["algorithm"] == RECIPES
