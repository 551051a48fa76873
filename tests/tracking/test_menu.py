"""`tracking` on the command line: one tracker, several, and their settings."""

from collections.abc import Callable
from typing import Any

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused

Compose = Callable[..., Experiment]


def chosen(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Return the trackers of the last step, which must be those of the run."""
    last = {name: each.model_dump() for name, each in experiment.steps[-1].config.tracking.items()}
    assert last == {name: each.model_dump() for name, each in experiment.run.tracking.items()}
    return last


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ([], ["wandb"]),
        (["tracking=none"], []),
        (["tracking=wandb"], ["wandb"]),
        (["tracking=[wandb,tensorboard]"], ["wandb", "tensorboard"]),
        (["stage=rl", "tracking=[wandb, trackio, tensorboard, mlflow]"], ["wandb", "trackio", "tensorboard", "mlflow"]),
    ],
    ids=lambda value: " ".join(value) or "default",
)  # fmt: skip
def test_one_or_several_trackers_can_be_chosen(
    overrides: list[str], names: list[str], compose_line: Compose
) -> None:
    assert list(chosen(compose_line(*overrides))) == names


def test_a_key_directly_below_tracking_reaches_every_tracker_but_one_with_a_value_of_its_own(
    compose_line: Compose,
) -> None:
    found = chosen(
        compose_line(
            "tracking=[wandb,trackio,mlflow]",
            "tracking.project=mine",
            "tracking.mlflow.project=own",
            "tracking.tags=[a]",
        )
    )
    assert [tracker["project"] for tracker in found.values()] == ["mine", "mine", "own"]
    assert (found["wandb"]["tags"], found["mlflow"]["tags"]) == (("a",), ("a",))


def test_the_keys_of_a_single_wandb_tracker_can_be_typed_without_its_name(compose_line: Compose) -> None:
    found = chosen(compose_line("tracking.mode=offline", "tracking.entity=team"))
    assert (found["wandb"]["mode"], found["wandb"]["entity"]) == ("offline", "team")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tracking=[wandb,tensorbord]"], "Did you mean tracking=tensorboard"),
        (["tracking.mod=offline"], r"no chosen tracker has the key mod .*Did you mean tracking\.mode"),
        (["tracking=none", "tracking.mode=offline"], "none is chosen"),
        (["tracking.wandb.mode=of"], "'auto', 'online' or 'offline'"),
        (["+tracking.mine={kind: nosuch}"], "package.module:Class of your own"),
        (["tracking=mlflow", "tracking.mlflow.uri=http://a:b@host"], "contains a password"),
        (["tracking=trackio", "'tracking.trackio.server=\"http://host?write_token=t\"'"[1:-1]], "or a token"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_choice_or_setting_is_refused(
    overrides: list[str], message: str, compose_line: Compose
) -> None:
    with pytest.raises(Refused, match=message):
        compose_line(*overrides)


def test_a_class_outside_r1exp_is_a_tracker(compose_line: Compose) -> None:
    found = compose_line("tracking=none", "+tracking.mine={kind: 'tests.tracking.toys:Notes', seconds: 2.0}")
    assert chosen(found) == {
        "mine": {"kind": "tests.tracking.toys:Notes", "fails_at": "", "waits_at": "", "seconds": 2.0}
    }


def test_trackers_and_kept_completions_do_not_change_the_key_of_a_step(compose_line: Compose) -> None:
    from r1exp.plan.steps import planned_steps

    keys = [
        [step.key for step in planned_steps(compose_line(*overrides))]
        for overrides in ([], ["tracking=[tensorboard,mlflow]", "completions.per_step=0"])
    ]
    assert keys[0] == keys[1]


def test_a_missing_package_is_refused_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    from r1exp.tracking.tensorboard import Tensorboard

    monkeypatch.setattr(Tensorboard, "needs", ("no_such_package", "pip install 'r1exp[tensorboard]'"))
    with pytest.raises(
        Refused, match=r"tracking=tensorboard needs .* type: pip install 'r1exp\[tensorboard\]'"
    ):
        Tensorboard(kind="tensorboard").refuse_unready()
