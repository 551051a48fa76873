"""`plan --yaml`: a file that composes to the same steps."""

from pathlib import Path

import pytest

from r1exp.assets import CONF
from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.errors import Refused
from r1exp.plan.show import plan_text
from r1exp.plan.steps import planned_steps

NEEDS = dict.fromkeys(("dpo_preferences", "rlhf_preferences"), ("dataset=ultrafeedback",))


def keys_of(*overrides: str, config_dirs: tuple[Path, ...] = ()) -> list[tuple[str, str]]:
    with session(config_dirs):
        return [(step.name, step.key) for step in planned_steps(experiment_from(overrides))]


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(
            ("rewards=vote_partial", "pipeline.steps.sft.set.max_steps=3", "name=a: b"), id="quickstart"
        ),
        pytest.param(("stage=sft", "max_steps=7", "model.lora.r=4"), id="a stage"),
        *(
            pytest.param(
                (f"{folder}={file.stem}", "seed=3", *NEEDS.get(file.stem, ())),
                id=file.stem,
                marks=pytest.mark.slow,
            )
            for folder in ("pipeline", "experiment")
            for file in sorted((CONF / folder).glob("*.yaml"))
            if file.stem != "none"
        ),
    ],
)
def test_the_file_composes_to_steps_with_the_same_keys(overrides: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "experiment" / "exact.yaml"
    file.parent.mkdir()
    file.write_text(plan_text(overrides, view="yaml"), encoding="utf-8")
    assert keys_of("experiment=exact", config_dirs=(tmp_path,)) == keys_of(*overrides)


def test_a_value_typed_beside_the_file_still_applies(tmp_path: Path) -> None:
    file = tmp_path / "experiment" / "exact.yaml"
    file.parent.mkdir()
    file.write_text(plan_text(["stage=rl", "beta=0.01"], view="yaml"), encoding="utf-8")
    assert keys_of("experiment=exact", "beta=0.02", config_dirs=(tmp_path,)) == keys_of(
        "stage=rl", "beta=0.02"
    )


@pytest.mark.parametrize(
    ("overrides", "is_multirun", "message"),
    [
        pytest.param(["seed=1,2"], True, "one run, and these are 2", id="a sweep"),
        pytest.param(["stage=rl", "~rewards.xml_count"], False, "delete a key", id="a deleted key"),
    ],
)
def test_what_one_file_cannot_say_is_refused(overrides: list[str], is_multirun: bool, message: str) -> None:
    with pytest.raises(Refused, match=message):
        plan_text(overrides, is_multirun=is_multirun, view="yaml")
