"""Decides which overrides apply to which step of a pipeline.

Overrides of training settings apply only to the pipeline's focus step, so that a sweep changes one step. Overrides of
the run apply to every step, unless the step's own `use` names that group. Precedence, lowest first: group defaults,
`use`, the experiment's overrides, `set`, typed overrides, overrides typed for one step. A training group that the
experiment or the user chooses replaces the one in `use`, unless it is typed there
(`pipeline.steps.rl.use.rewards=strict`, or `pipeline.steps.rl={use:{rewards:strict}}`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from r1exp.config.overrides import Override, choosing, flat, leaves, quote
from r1exp.config.pipeline import PipelineSettings, StepSpec

TRAINING = frozenset(
    {
        "algorithm",
        "rewards",
        "beta",
        "learning_rate",
        "max_steps",
        "num_generations",
        "temperature",
        "trainer",
        "stage",
    }
)
RUN_ONLY = frozenset({"hydra", "pipeline", "name", "paths", "sweep", "fork"})
NAMED = frozenset({"experiment", "sweeps"})  # groups whose files contain overrides


@dataclass(frozen=True)
class StepOverrides:
    """The overrides that one step is composed from."""

    all: tuple[Override, ...]  # in order of increasing precedence
    typed: tuple[Override, ...]  # those that the user typed


def overrides_for_step(
    name: str,
    spec: StepSpec,
    pipeline: PipelineSettings,
    typed: Sequence[Override],
    from_files: Sequence[Override] = (),
) -> StepOverrides:
    """Return the overrides that step `name` is composed from.

    Args:
        name: Name of the step.
        spec: Settings of the step.
        pipeline: The pipeline.
        typed: Overrides of the command line.
        from_files: Overrides in the experiment's file.
    """
    typed = [
        each
        for override in typed
        for each in (leaves(override) if override.head == "pipeline" else [override])
    ]
    prefix = f"pipeline.steps.{name}.set."
    own = [override for override in typed if override.key.startswith(prefix)]
    own_keys = {override.key.removeprefix(prefix) for override in own}
    use_prefix = f"pipeline.steps.{name}.use."
    own_use = [override for override in typed if override.key.startswith(use_prefix)]
    own_groups = {override.key.removeprefix(use_prefix) for override in own_use if override.sign != "~"}
    common = [
        override
        for override in typed
        if _applies(override, name, spec, pipeline) and not (override.is_group and override.key in own_groups)
    ]
    chosen = {override.key for override in common if override.is_group}
    named = [
        override
        for override in from_files
        if _applies(override, name, spec, pipeline) and override.key not in chosen | own_groups
    ]
    # Only training groups can be replaced: an override of a run group that `use` names does not apply.
    replaced = {override.key for override in [*common, *named] if override.is_group}
    use = [
        _group(group, option, f"pipeline.steps.{name}.use.{group}")
        for group, option in spec.use.items()
        if group not in replaced
    ]
    fixed = [
        _value(key, quote(value), f"{prefix}{key}")
        for key, value in flat(spec.set).items()
        if key not in own_keys
    ]
    for_this_step = [
        _value(override.key.removeprefix(prefix), override.value, override.key) for override in own
    ]
    return StepOverrides(
        all=(
            _group("pipeline", "none", "pipeline"),
            *use,
            *named,
            *fixed,
            *(override for override in common if override.head not in NAMED),
            *for_this_step,
        ),
        typed=(*common, *own_use, *own),
    )


def _applies(override: Override, name: str, spec: StepSpec, pipeline: PipelineSettings) -> bool:
    if override.head in RUN_ONLY:
        return False
    if override.head in TRAINING:
        return name == pipeline.focus
    return override.head not in spec.use


def _group(group: str, option: str, set_by: str) -> Override:
    return Override(f"{group}={option}", group, "", is_group=True, is_sweep=False, set_by=set_by)


def _value(key: str, text: str, set_by: str) -> Override:
    return choosing(Override(f"{key}={text}", key, "", is_group=False, is_sweep=False, set_by=set_by))
