"""Describes keys of the configuration: what each is, which values it takes, its value now, and what reads it.

Everything is read from where it is declared: comments and annotations of the settings classes, comments of the YAML
files, and the documentation of TRL for `trainer.*`. Needs a session of `config.compose`.
"""

import json
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from r1exp.algorithm.menu import ALGORITHMS
from r1exp.algorithm.trainer_fields import OWNED, every_field, fields_of
from r1exp.algorithm.trainer_help import trainer_classes, trainer_defaults, trainer_help
from r1exp.config.comments import comment_of, first_sentence, purpose_of, yaml_comments, yaml_purpose
from r1exp.config.compose import groups, text_of_option
from r1exp.config.experiment import Experiment, RunConfig
from r1exp.config.origin import Origins
from r1exp.config.overrides import flat
from r1exp.config.targets import NAMED, RUN_ONLY, TRAINING
from r1exp.registry import Registry
from r1exp.stage.base import STAGE_FIELDS
from r1exp.stage.menu import STAGES

ANY = "NAME"  # stands for any name of a mapping: rewards.NAME.weight
_SET = ".set."
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_TYPES = {int: "an integer", float: "a number", str: "text", bool: "true or false", Any: "any value"}
_SWEEP_GROUPS = {
    "experiment": "a named set of overrides that reproduces a known run; its file has values of any group",
    "sweeps": "a named sweep: the values that `-m` would list, in a file of sweeps/",
    "suites": "suites of held-out problems; usually typed as evaluation.suites=[arithmetic,gsm8k]",
}


@dataclass(frozen=True)
class Field:
    """One declaration of a key: the class of one kind, and its field."""

    kind: str  # the kind that has it, for example `slurm`; empty if the class has no kinds
    model: type[BaseModel]
    name: str

    @property
    def info(self) -> FieldInfo:
        """What pydantic knows of it."""
        return self.model.model_fields[self.name]


def declarations(key: str) -> list[Field]:
    """Return every declaration of a dotted key, over all kinds; empty if there is no such key."""
    return list(_declared(RunConfig, key.split("."), ""))


def _declared(model: type[BaseModel], parts: Sequence[str], kind: str) -> Iterator[Field]:
    name, *rest = parts
    if name not in model.model_fields:
        return
    if not rest:
        yield Field(kind, model, name)
        return
    for own, inner, is_mapping in _models_below(model.model_fields[name].annotation):
        deeper = rest[1:] if is_mapping else rest
        if deeper:
            yield from _declared(inner, deeper, own or kind)


def _models_below(annotation: Any, is_mapping: bool = False) -> Iterator[tuple[str, type[BaseModel], bool]]:
    """Yield (kind, class, whether a name of a mapping stands before its keys) of what a field may hold."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _models_below(get_args(annotation)[0], is_mapping)
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _models_below(part, is_mapping)
    elif origin is dict:
        yield from _models_below(get_args(annotation)[1], True)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        registry = Registry.of(annotation)
        if registry is not None:
            for kind in registry.kinds():
                yield kind, registry.find(kind), is_mapping
        else:
            yield _kind_of(annotation), annotation, is_mapping


def _kind_of(model: type[BaseModel]) -> str:
    field = model.model_fields.get("kind")
    values = () if field is None else get_args(field.annotation)
    return str(values[0]) if values else ""


def every_key() -> set[str]:
    """Return every dotted key of the schema, over all kinds; names of mappings are written `NAME`."""
    return {*_keys(RunConfig, ""), *(f"trainer.{name}" for name in every_field() - OWNED.keys())}


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for _, inner, is_mapping in _models_below(field.annotation):
            yield from _keys(inner, f"{prefix}{name}.{ANY}." if is_mapping else f"{prefix}{name}.")


def meaning(key: str, experiment: Experiment) -> str:
    """Return what a key is, in a sentence or a phrase; empty if nothing describes it."""
    head, _, rest = key.partition(".")
    if head == "trainer" and rest:
        return trainer_help(rest.split(".")[0]) or ""
    if key.startswith("pipeline.steps.") and _SET in key:
        step, _, inner = key.removeprefix("pipeline.steps.").partition(_SET)
        return f"the value of {inner} in step {step}: {meaning(inner, experiment)}"
    if key.startswith("pipeline.steps.") and ".use." in key:
        step, _, group = key.removeprefix("pipeline.steps.").partition(".use.")
        return f"the option of the group {group} that step {step} uses"
    if key in _SWEEP_GROUPS:
        return _SWEEP_GROUPS[key]
    texts = {field.kind: _text(field) for field in declarations(key)}
    own = texts.get(_current_kind(key, experiment), "")
    return own or next((text for text in texts.values() if text), "") or _from_yaml(key, experiment)


def _text(field: Field) -> str:
    comment = comment_of(field.model, field.name) or field.info.description or ""
    if comment:
        return comment
    if field.name == "kind":
        return (
            f"which one it is. {field.kind}: {purpose_of(field.model)}" if field.kind else "which one it is"
        )
    inner = [model for _, model, _ in _models_below(field.info.annotation)]
    return purpose_of(inner[0]) if len(inner) == 1 else ""


def _current_kind(key: str, experiment: Experiment) -> str:
    """Return the kind that the composed configuration has where `key` is."""
    values: Any = experiment.composition.values
    found = ""
    for part in key.split(".")[:-1]:
        values = values.get(part) if isinstance(values, dict) else None
        if isinstance(values, dict) and isinstance(values.get("kind"), str):
            found = values["kind"]
    return found


def _from_yaml(key: str, experiment: Experiment) -> str:
    """Return the comment beside the key in the file that sets it."""
    group, _, rest = key.partition(".")
    options = chosen_options(group, experiment) or groups().get(group, [])
    return next(
        (found for name in options if (found := yaml_comments(text_of_option(group, name)).get(rest))), ""
    )


def allowed(key: str) -> str:
    """Return the values that a key takes, in words."""
    head, _, rest = key.partition(".")
    if head == "trainer" and rest:
        name = rest.split(".")[0]
        found = dict.fromkeys(part for trainer in trainer_classes(name) for part in fields_of(trainer)[name])
        return ", ".join(part.removeprefix("=") for part in found)
    if _SET in key:
        return allowed(key.partition(_SET)[2])
    if ".use." in key:
        return ", ".join(groups().get(key.rpartition(".")[2], []))
    texts = []
    for field in declarations(key):
        if field.name == "kind":
            registry = next((Registry.of(base) for base in field.model.__mro__ if Registry.of(base)), None)
            texts.append(
                ", ".join(registry.kinds()) if registry else ", ".join(get_args(field.info.annotation))
            )
        else:
            texts.append(_values(field.info.annotation, field.info.metadata))
    return "; or ".join(dict.fromkeys(text for text in texts if text))


def _values(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *extra = get_args(annotation)
        return _values(inner, [*extra, *metadata])
    if origin in (Union, types.UnionType):
        parts = [_values(part, metadata) for part in get_args(annotation) if part is not types.NoneType]
        null = ["null"] if types.NoneType in get_args(annotation) else []
        return " or ".join(dict.fromkeys([*parts, *null]))
    if origin is Literal:
        return ", ".join(
            json.dumps(value) if isinstance(value, bool) else str(value) for value in get_args(annotation)
        )
    if origin in (tuple, list):
        return f"a list of {_values(get_args(annotation)[0])}" if get_args(annotation) else "a list"
    if origin is dict or annotation is dict:
        return "a mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a mapping"
    bounds = " and ".join(_bounds(metadata))
    return f"{_TYPES.get(annotation, 'a value')} {bounds}".rstrip()


def _bounds(metadata: Sequence[Any]) -> Iterator[str]:
    for item in metadata:
        for single in getattr(item, "metadata", None) or [item]:  # a pydantic Field holds several
            if isinstance(single, annotated_types.BaseMetadata):
                for name, sign in _BOUNDS.items():
                    if hasattr(single, name):
                        yield f"{sign} {getattr(single, name):g}"


def value_now(key: str, experiment: Experiment) -> str:
    """Return the composed value with its origin; where steps differ, that of each; else the default."""
    name = key.partition(".")[2]
    found: dict[str, list[str]] = {}  # value and origin -> steps
    run = Origins(experiment.composition, experiment.overrides)
    if key.split(".")[0] not in RUN_ONLY:
        for step in experiment.steps:
            values = flat(step.composition.values)
            if key in values and (key.split(".")[0] not in STAGE_FIELDS or _is_read(key, step.config)):
                origin = Origins(step.composition, step.overrides, run).of(key)
                found.setdefault(f"{_shown(values[key])} ({origin})", []).append(step.name)
    values = flat(experiment.composition.values)
    if not found and key in values:
        found[f"{_shown(values[key])} ({run.of(key)})"] = []
    if len(found) == 1:
        return next(iter(found))
    if found:
        return "; ".join(f"{text} in step {', '.join(steps)}" for text, steps in found.items())
    if key.startswith("trainer."):
        defaults = {_shown(value) for value in trainer_defaults(name).values()}
        return f"{' or '.join(sorted(defaults))} (default of TRL)" if defaults else "none (TRL)"
    return " or ".join(dict.fromkeys(_default(field) for field in declarations(key)))


def _is_read(key: str, config: Any) -> bool:
    """Whether a step has a value for a setting that only some stages read."""
    return getattr(config, key.split(".")[0]) not in (None, {})


def _default(field: Field) -> str:
    owner = f" ({field.kind})" if field.kind else ""
    if field.info.default is PydanticUndefined:
        return f"stated by its option{owner}"
    default = field.info.default
    return f"{_shown(default.model_dump() if isinstance(default, BaseModel) else default)}{owner}"


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def readers(key: str) -> str:
    """Return which stages and algorithms read a key, and to which steps it applies when it is typed."""
    head = key.split(".")[0]
    if head in RUN_ONLY or head in NAMED:
        return "the run as a whole"
    where = (
        "when typed, it applies to the focus step"
        if head in TRAINING
        else "it applies to every step that reads it"
    )
    return f"{_who(key, head)}; {where}"


def _who(key: str, head: str) -> str:
    if head == "trainer" and "." in key:
        classes = trainer_classes(key.split(".")[1])
        stages = [f"stage={kind}" for kind in STAGES.kinds() if STAGES.find(kind).trainer_config in classes]
        algorithms = [
            f"algorithm={kind}"
            for kind in ALGORITHMS.kinds()
            if ALGORITHMS.find(kind).trainer_config in classes
        ]
        return ", ".join([*stages, *algorithms])
    if head in STAGE_FIELDS:
        stages = [f"stage={kind}" for kind in STAGES.kinds() if head in STAGES.find(kind).fields]
        algorithms = [
            f"algorithm={kind}" for kind in ALGORITHMS.kinds() if head in ALGORITHMS.find(kind).fields
        ]
        if head == "algorithm":
            stages = [f"stage={kind}" for kind in STAGES.kinds() if STAGES.find(kind).runs_algorithm]
        return _of_kinds(key, ", ".join([*stages, *algorithms]))
    if head == "evaluation":
        return "stage=evaluate"
    if head == "debug":
        return "every stage"
    return _of_kinds(key, "every stage")


def _of_kinds(key: str, who: str) -> str:
    """Return `who`, with the kinds of the key's own group where only some have the key."""
    head = key.split(".")[0]
    kinds = [field.kind for field in declarations(key) if field.kind]
    every = {field.kind for field in declarations(f"{head}.kind") or declarations(f"{head}.{ANY}.kind")}
    if "." not in key or not kinds or set(kinds) >= every:
        return who
    noun = {"rewards": "rewards of the kind"}.get(head, f"{head}.kind")
    return f"{who}, with {noun} {', '.join(dict.fromkeys(kinds))}"


def chosen_options(group: str, experiment: Experiment) -> list[str]:
    """Return the options of a group that the configuration has: none, one, or several of a group that takes a list."""
    chosen: Any = experiment.composition.choices.get(group)
    if chosen is None:
        return []
    return [chosen] if isinstance(chosen, str) else [str(option) for option in chosen]


def option_purpose(group: str, option: str) -> str:
    """Return the first sentence of an option's file."""
    return first_sentence(yaml_purpose(text_of_option(group, option)))
