"""Cuts a step short with the limits of `debug`, before it is validated.

What the user typed stays. Every other value above its limit becomes the limit, also one that a recipe, a pipeline or an
experiment sets. The step then contains the values that it runs with, so that nothing after this knows of `debug`.
"""

from collections.abc import Collection, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pydantic import TypeAdapter, ValidationError

from r1exp.config.overrides import Override
from r1exp.stage.step_settings import LauncherSettings

_LIMITED = {  # limit -> the keys whose values it bounds
    "max_steps": ("max_steps",),
    "num_rows": ("dataset.limit", "dataset.num_train"),
    "num_problems": ("evaluation.num_problems",),
    "num_prompts": ("stage.num_problems",),
    "rows_per_step": (
        "stage.rows_per_step",
        "stage.pairs_per_step",
        "stage.prompts_per_step",
        "algorithm.answers_per_step",
        "algorithm.pairs_per_step",
        "algorithm.prompts_per_step",
    ),
    "num_generations": ("num_generations", "stage.samples", "evaluation.samples"),
    "max_completion_length": ("max_completion_length", "evaluation.max_tokens"),
}
_ALL_IF_NULL = {"dataset.limit", "evaluation.num_problems", "stage.num_problems"}  # null: no limit


def cut_short(config: DictConfig, typed: Collection[str], option: str) -> tuple[Override, ...]:
    """Lower the values of a composed configuration to the limits of `debug`; return the changes as overrides.

    Args:
        config: Composed and unresolved; changed in place.
        typed: The keys that the user typed for this step.
        option: The chosen option of `debug`, for `plan`.
    """
    changes = []
    for name, keys in _LIMITED.items():
        limit = OmegaConf.select(config, f"debug.{name}")
        if not isinstance(limit, int) or isinstance(limit, bool):
            continue  # no limit, or a value that the validation refuses
        if name == "rows_per_step":
            limit = max(limit, _num_ranks(config))  # the ranks share the rows of an optimizer step
        for key in [*keys, *_of_suites(config, keys)]:
            if not _is_typed(key, typed) and _exceeds(config, key, limit):
                OmegaConf.update(config, key, limit)
                text = f"{key}={limit}"
                changes.append(Override(text, key, "", False, False, file=f"debug/{option}.yaml"))
    return tuple(changes)


def _of_suites(config: DictConfig, keys: Sequence[str]) -> list[str]:
    """Return the keys of the suites that stand for keys of `evaluation`."""
    suites = OmegaConf.select(config, "evaluation.suites")
    names = list(suites) if isinstance(suites, DictConfig) else []
    fields = [key.removeprefix("evaluation.") for key in keys if key.startswith("evaluation.")]
    return [f"evaluation.suites.{name}.{field}" for name in names for field in fields]


def _is_typed(key: str, typed: Collection[str]) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in typed)


def _exceeds(config: DictConfig, key: str, limit: int) -> bool:
    """Whether the configuration states a value of `key` itself that is above the limit."""
    above, _, leaf = key.rpartition(".")
    node: Any = OmegaConf.select(config, above) if above else config
    if not isinstance(node, DictConfig) or leaf not in node or OmegaConf.is_interpolation(node, leaf):
        return False
    value = node[leaf]
    if value is None:
        return key in _ALL_IF_NULL
    return isinstance(value, int) and value > limit


def _num_ranks(config: DictConfig) -> int:
    try:
        values = OmegaConf.to_container(config.launcher, resolve=True)
        launcher: Any = TypeAdapter(LauncherSettings).validate_python(values)
    except ValidationError:  # refused later, with a message
        return 1
    return int(launcher.for_step(0).num_processes)


def typed_keys(overrides: Sequence[Override], step: str = "") -> set[str]:
    """Return the keys that are set by typed overrides, those for one step included; groups are not keys."""
    prefix = f"pipeline.steps.{step}.set."
    return {
        override.key.removeprefix(prefix)
        for override in overrides
        if not override.is_group and override.file is None
    }
