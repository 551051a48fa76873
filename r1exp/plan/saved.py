"""Writes the complete configuration of a run as one YAML file, an experiment that composes to the same steps.

    r1exp plan --yaml rewards=vote_partial beta=0.01 > mine/experiment/exact.yaml
    r1exp --config-dir mine experiment=exact

The file chooses every option that was composed and sets every value: of a pipeline in the `set` of each step, which takes
precedence over everything but what is typed. Settings of training at its top are those of the focus step, because an
experiment's apply to that step.
"""

import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from r1exp.config.compose import session
from r1exp.config.experiment import ComposedStep, Experiment, experiment_from
from r1exp.config.targets import NAMED, TRAINING
from r1exp.errors import Refused
from r1exp.plan.steps import planned_steps

_OPTION = "plan_as_saved"  # name of the file while it is checked


def saved_text(experiment: Experiment) -> str:
    """Return the file. Needs a `compose.session`."""
    choices = {
        group: option
        for group, option in experiment.composition.choices.items()
        if option is not None and "/" not in group and group not in NAMED
    }
    values = experiment.run.model_dump(mode="json")
    if experiment.run.pipeline is not None:
        focus = next(step for step in experiment.steps if step.name == experiment.focus)
        steps = values["pipeline"]["steps"]
        for step in experiment.steps:
            steps[step.name]["use"] = _options(step)
            steps[step.name]["set"] = step.config.model_dump(mode="json")
        of_focus = focus.config.model_dump(mode="json")
        values |= {name: of_focus[name] for name in TRAINING}
        if (
            of_focus["algorithm"] is None
        ):  # at its top they would be checked as arguments of the default algorithm
            del values["trainer"]
        choices = {group: option for group, option in choices.items() if group not in TRAINING}
        choices |= {group: option for group, option in _options(focus).items() if group in TRAINING}
        del values["stage"], choices["stage"]
    else:
        del values["pipeline"]
    # `rewards: null` would be read as an option of the group.
    values = {key: value for key, value in values.items() if value is not None}
    defaults: list[Any] = [
        *({f"override /{group}": option} for group, option in reversed(choices.items())),
        "_self_",
    ]
    typed = shlex.join(experiment.arguments) or "nothing typed"
    return (
        "# @package _global_\n"
        f"# Every value of the run {experiment.name!r} ({typed}).\n"
        "# Source: r1exp plan --yaml.\n"
        "#   r1exp --config-dir FOLDER experiment=NAME    # this file is FOLDER/experiment/NAME.yaml\n"
        + yaml.safe_dump({"defaults": defaults, **values}, sort_keys=False, allow_unicode=True, width=120)
    )


def _options(step: ComposedStep) -> dict[str, str]:
    """Return the options that were chosen for a step: group -> option."""
    chosen = {
        override.key: override.value
        for override in step.overrides
        if override.is_group and not override.sign and "." not in override.key
    }
    return {group: option for group, option in chosen.items() if group not in (*NAMED, "pipeline")}


def refuse_other_steps(
    text: str, keys: Sequence[str], config_dirs: Sequence[Path], search_path: Sequence[str]
) -> None:
    """Compose the file, outside of a session, and raise Refused if its steps do not have the same keys."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "experiment" / f"{_OPTION}.yaml"
        file.parent.mkdir()
        file.write_text(text, encoding="utf-8")
        try:
            with session([*config_dirs, Path(name)], search_path):
                found = [step.key for step in planned_steps(experiment_from([f"experiment={_OPTION}"]))]
        except Refused as error:
            raise Refused(f"this run cannot be written as one file: {error}") from error
    if found != list(keys):
        raise Refused(
            "this run cannot be written as one file, because overrides that delete a key (~KEY) are not part of it; "
            "set the weight of a reward to 0 instead, for example"
        )
