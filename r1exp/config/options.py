"""Checks the options that overrides choose before Hydra composes them, so that each refusal says what to type."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hydra.core.global_hydra import GlobalHydra

from r1exp.config.launcher_plugins import refuse_launcher_plugins
from r1exp.config.overrides import Override
from r1exp.errors import Refused
from r1exp.settings import nearest

SWEEPER = "hydra/sweeper"
# Groups of named entries, whose options can be merged: rewards=[strict,graded].
_SEVERAL = frozenset({"rewards", "health", "tracking", "suites"})
# Settings of Hydra that r1exp does not read -> what to type instead.
_UNUSED = {
    "hydra.run.dir": "a run has its folder from paths.run=DIR, or below paths.runs=DIR",
    "hydra.output_subdir": "the configuration of a run is in its manifest.json and plan.json",
    "hydra.sweep.subdir": "members are numbered; the folder of the sweep is hydra.sweep.dir=DIR",
    "hydra.job.chdir": "r1exp stays in the current folder; relative paths start there",
    "hydra.job.name": "type name=...",
    "hydra.job.env_": "set variables before the command: NAME=value r1exp ...",
    "hydra.callbacks": "r1exp calls no callbacks of Hydra; plug-ins are described in docs/extending.md",
}


def check_options(overrides: Sequence[Override], known: Mapping[str, list[str]], place: str = "") -> None:
    """Refuse options that do not exist, plug-ins that are not installed, and settings of Hydra without effect.

    Args:
        overrides: Of the run, or of one step.
        known: Config group -> its options.
        place: Prefix of messages.

    Raises:
        Refused: for one of these reasons.
    """
    refuse_launcher_plugins(overrides)
    for override in overrides:
        if override.is_group and not override.is_sweep and override.value:
            _check_option(override, known[override.key], place)
        elif override.text.startswith(f"{SWEEPER}="):
            _check_sweeper(override)
        elif override.key.startswith(tuple(_UNUSED)):
            instead = next(text for key, text in _UNUSED.items() if override.key.startswith(key))
            raise Refused(f"{override.text} would have no effect: {instead}")


def _check_option(override: Override, options: list[str], place: str) -> None:
    value = override.value.strip("'\"")
    if value.startswith("[") and value.endswith("]"):
        if override.key not in _SEVERAL:
            raise Refused(
                f"{place}{override.text}: {override.key} takes one option; only {' and '.join(sorted(_SEVERAL))} take "
                f"several at once. To compare them type -m {override.key}={value[1:-1]}"
            )
        for part in value[1:-1].split(","):
            single = replace(override, text=f"{override.key}={part.strip()}")
            _check_option(single, options, place)
        return
    if value in options or not value:
        return
    if value == "null":
        raise Refused(
            f"{place}{override.text}: the value of a group is the name of an option, one of: {', '.join(options)}"
        )
    close = nearest(value, options)
    hint = f" Did you mean {override.key}={close[0]}?" if close else ""
    raise Refused(
        f"{place}{override.key}={value}: no such option.{hint} {override.key} has: {', '.join(options)}"
    )


def _check_sweeper(override: Override) -> None:
    """Refuse a sweeper that is not installed."""
    value = override.text.partition("=")[2]
    repository = GlobalHydra.instance().config_loader().repository  # type: ignore[attr-defined]
    options = repository.get_group_options(SWEEPER)
    if value in options and (value != "optuna" or repository.get_group_options(f"{SWEEPER}/sampler")):
        return
    if value == "optuna":
        raise Refused(f"{override.text} needs hydra-optuna-sweeper; type: pip install 'r1exp[optuna]'")
    close = nearest(value, options)
    hint = f" Did you mean {SWEEPER}={close[0]}?" if close else ""
    raise Refused(
        f"{override.text}: no such sweeper is installed.{hint} Installed: {', '.join(options)}; others are packages, "
        "for example hydra-nevergrad-sweeper"
    )
