"""Which overrides apply to which step of a pipeline."""

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from r1exp.config.overrides import flat, parse
from r1exp.config.pipeline import PipelineSettings, StepSpec
from r1exp.config.targets import overrides_for_step

GROUPS = ("algorithm", "dataset", "pipeline", "experiment")

PIPELINE = PipelineSettings(
    focus="rl",
    steps={
        "sft": StepSpec(
            use={"stage": "sft", "dataset": "limo"}, set={"max_steps": 300, "trainer": {"packing": True}}
        ),
        "rl": StepSpec(use={"stage": "rl", "algorithm": "grpo"}),
    },
)


def overrides(step: str, *typed: str, from_file: Sequence[str] = ()) -> tuple[str, ...]:
    found = overrides_for_step(
        step, PIPELINE.steps[step], PIPELINE, parse(typed, GROUPS), parse(from_file, GROUPS)
    )
    return tuple(override.for_hydra() for override in found.all)


def test_training_overrides_apply_to_the_focus_step_only() -> None:
    assert "++beta=0.1" in overrides("rl", "beta=0.1")
    assert "++beta=0.1" not in overrides("sft", "beta=0.1")


def test_run_overrides_apply_to_every_step_unless_its_use_names_the_group() -> None:
    assert "++seed=3" in overrides("sft", "seed=3")
    assert "dataset=gsm8k" in overrides("rl", "dataset=gsm8k")
    assert "dataset=gsm8k" not in overrides("sft", "dataset=gsm8k")


def test_a_typed_algorithm_replaces_the_one_in_use() -> None:
    assert "algorithm=grpo" in overrides("rl")
    assert "algorithm=grpo" not in overrides("rl", "algorithm=ppo")


def test_a_group_typed_in_use_replaces_the_experiments_and_the_common_one() -> None:
    # The composed pipeline already contains the typed value: PIPELINE.steps["rl"].use.
    own = "pipeline.steps.rl.use.algorithm=grpo"
    assert "algorithm=grpo" in overrides("rl", own, from_file=["algorithm=dapo"])
    assert "algorithm=dapo" not in overrides("rl", own, from_file=["algorithm=dapo"])
    assert "algorithm=ppo" not in overrides("rl", "algorithm=ppo", own)


@pytest.mark.parametrize(
    "own",
    [
        "pipeline.steps.rl.use={algorithm:grpo}",
        "pipeline.steps.rl={use:{stage:rl,algorithm:grpo},set:{beta:0.3}}",
        "pipeline.steps={rl:{use:{algorithm:grpo}}}",
        "++pipeline.steps.rl={use:{stage:rl,algorithm:grpo}}",
    ],
)
def test_a_group_typed_in_a_mapping_counts_like_one_typed_alone(own: str) -> None:
    found = overrides("rl", own, "algorithm=ppo", "beta=0.1", from_file=["algorithm=dapo"])
    assert "algorithm=grpo" in found
    assert not {"algorithm=dapo", "algorithm=ppo"} & set(found)
    assert found[-1] == ("++beta=0.3" if "beta" in own else "++beta=0.1")


def test_overrides_for_one_step_come_last_and_replace_its_set() -> None:
    chosen = overrides("sft", "seed=3", "pipeline.steps.sft.set.max_steps=5")
    assert chosen[-1] == "++max_steps=5"
    assert "++max_steps=300" not in chosen
    assert "++trainer.packing=true" in chosen


def test_an_experiments_overrides_apply_like_typed_ones_with_lower_precedence() -> None:
    named = ("beta=0.5", "seed=3", "dataset=gsm8k", "dataset.limit=5", "max_steps=7", "algorithm=ppo")
    sft, rl = overrides("sft", "seed=4", from_file=named), overrides("rl", "beta=0.1", from_file=named)
    assert sft == (
        "pipeline=none", "stage=sft", "dataset=limo", "++seed=3", "++max_steps=300", "++trainer.packing=true", "++seed=4",
    )  # fmt: skip
    assert rl == (
        "pipeline=none", "stage=rl", "++beta=0.5", "++seed=3", "dataset=gsm8k", "++dataset.limit=5", "++max_steps=7", "algorithm=ppo",
        "++beta=0.1",
    )  # fmt: skip


def test_overrides_of_the_run_apply_to_no_step() -> None:
    assert overrides("rl", "name=x", "paths.runs=y", "hydra.verbose=true", "pipeline=sft_grpo") == overrides(
        "rl"
    )


def test_nested_values_become_dotted_keys() -> None:
    assert flat({"a": {"b": 1, "c": {}}, "d": [2]}) == {"a.b": 1, "a.c": {}, "d": [2]}


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        pytest.param(
            {"focus": "x", "steps": {"a": {"use": {"stage": "sft"}}}}, "none of the steps", id="focus"
        ),
        pytest.param({"focus": "a", "steps": {"a": {"use": {}}}}, "use: {stage: sft}", id="no stage"),
        pytest.param(
            {
                "focus": "a",
                "steps": {"a": {"use": {"stage": "sft"}, "model_from": "b"}, "b": {"use": {"stage": "sft"}}},
            },
            "none of \\['base'\\]",
            id="a later source",
        ),
    ],
)
def test_pipelines_with_unknown_sources_are_refused(pipeline: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PipelineSettings.model_validate(pipeline)
