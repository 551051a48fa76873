"""Which words of a command line, and of its experiment file, reach which step of a ladder.

What is said about training reaches the ladder's focus step only, so that a sweep compares what it
says it compares; what is said about the run reaches every step, unless a step's own `use` names
that group. Precedence, lowest first: group defaults, `use`, the experiment's, `set`, typed, typed for
one step; but a training group that the experiment or the user chooses takes the place of `use`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
RUN_ONLY = frozenset({"hydra", "pipeline", "name", "paths"})
CARRIED = frozenset({"experiment", "sweeps"})  # named deltas: what their files say is handed on as words


class TypedWord(Protocol):
    """What this room needs to know about an override."""

    @property
    def key(self) -> str: ...
    @property
    def head(self) -> str: ...
    @property
    def value(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def is_group(self) -> bool: ...
    def for_hydra(self) -> str: ...


@dataclass(frozen=True)
class StepWords:
    """The overrides one step is composed from, and the typed words among them."""

    overrides: tuple[str, ...]  # for Hydra, weakest first
    reached_by: tuple[str, ...]  # as typed


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as dotted keys; empty mappings stay values."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def words_for_step(
    name: str,
    spec: StepSpec,
    pipeline: PipelineSettings,
    words: Sequence[TypedWord],
    quote: "Quote",
    deltas: Sequence[TypedWord] = (),
) -> StepWords:
    """Return what step `name` is composed from.

    Args:
        words: As typed.
        deltas: What the experiment's file says.
    """
    own_prefix = f"pipeline.steps.{name}.set."
    own = [word for word in words if word.key.startswith(own_prefix)]
    own_keys = {word.key.removeprefix(own_prefix) for word in own}
    typed = [word for word in words if _reaches(word, name, spec, pipeline)]
    chosen = {word.key for word in typed if word.is_group}
    carried = [word for word in deltas if _reaches(word, name, spec, pipeline) and word.key not in chosen]
    # Only training groups are ever replaced: a group of the run that `use` names is out of reach.
    replaced = {word.key for word in [*typed, *carried] if word.is_group}
    use = [f"{group}={option}" for group, option in spec.use.items() if group not in replaced]
    fixed = [f"++{key}={quote(value)}" for key, value in flat(spec.set).items() if key not in own_keys]
    last = [f"++{word.key.removeprefix(own_prefix)}={word.value}" for word in own]
    return StepWords(
        overrides=(
            "pipeline=none",
            *use,
            *(word.for_hydra() for word in carried),
            *fixed,
            *(word.for_hydra() for word in typed if word.head not in CARRIED),
            *last,
        ),
        reached_by=tuple(word.text for word in [*typed, *own]),
    )


def _reaches(word: TypedWord, name: str, spec: StepSpec, pipeline: PipelineSettings) -> bool:
    if word.head in RUN_ONLY:
        return False
    if word.head in TRAINING:
        return name == pipeline.focus
    return word.head not in spec.use


class Quote(Protocol):
    """Writes a value in Hydra's override grammar."""

    def __call__(self, value: Any) -> str: ...
