"""Finds where each value of a composed configuration comes from: a file, or an override.

The keys of an experiment file could also have been typed: `experiment_overrides` returns them as overrides, so that
they can be applied to the steps of a pipeline.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from hydra.core.default_element import GroupDefault, InputDefault

from r1exp.config.compose import Composition, as_override, content_of, parsed
from r1exp.config.overrides import Override, flat
from r1exp.config.targets import NAMED
from r1exp.errors import Refused


def contents(
    composition: Composition, groups: Collection[str] = ()
) -> Iterator[tuple[str, list[InputDefault], dict[str, Any]]]:
    """Yield the path, the defaults and the dotted keys of each file, in the order in which they were merged.

    Args:
        composition: The composition.
        groups: Config groups whose files are read; empty: all.
    """
    for path, package in composition.files():
        if path.startswith("hydra") or (groups and path.split("/")[0] not in groups):
            continue
        defaults, values = content_of(path)
        prefix = f"{package}." if package not in ("", "_global_") else ""
        yield path, defaults, {f"{prefix}{key}": value for key, value in flat(values).items()}


def experiment_overrides(composition: Composition) -> list[Override]:
    """Return the keys of experiment and sweep files as overrides; later files take precedence. Needs a session."""
    if not any(composition.choices.get(group) for group in NAMED):
        return []
    found: dict[str, Override] = {}
    for path, defaults, values in contents(composition, NAMED):
        choices = {
            default.group.lstrip("/"): default.value
            for default in defaults
            if isinstance(default, GroupDefault) and default.override and default.group is not None
        }
        texts = [f"~{group}" if option is None else f"{group}={option}" for group, option in choices.items()]
        texts += [as_override(key, value) for key, value in values.items()]
        try:
            overrides = parsed(texts)
        except Refused as error:
            raise Refused(f"{path}.yaml: {error}") from error
        found |= {override.key: replace(override, file=f"{path}.yaml") for override in overrides}
    return list(found.values())


class Origins:
    """The origin of each value of a composition. Needs a session when it is created.

    Args:
        composition: The composition.
        overrides: The overrides it was composed from.
        run: Origins of the run's composition, for values that the pipeline sets; None if this is the run's.
    """

    def __init__(
        self, composition: Composition, overrides: Sequence[Override], run: "Origins | None" = None
    ) -> None:
        found: dict[str, str] = {}
        for path, _, values in contents(composition):
            # A suite and its data set have keys that come from the option that the file names.
            whole = [".".join(key.split(".")[:3]) for key in values if key.startswith("evaluation.suites.")]
            found |= dict.fromkeys([*values, *whole], f"{path}.yaml")
        for override in overrides:
            if not override.is_group:
                below = f"{override.key}."
                found = {key: origin for key, origin in found.items() if not key.startswith(below)}
                found[override.key] = self._of_override(override, run)
        self._found = {key: origin for key, origin in found.items() if not key.startswith("hydra.")}

    def of(self, key: str) -> str:
        """Return the origin of `key`, or of the nearest key above it; `default` if only the schema sets it."""
        while key:
            if key in self._found:
                return self._found[key]
            key = key.rpartition(".")[0]
        return "default"

    @staticmethod
    def _of_override(override: Override, run: "Origins | None") -> str:
        if override.set_by is not None and run is not None:
            origin = run.of(override.set_by)
            return origin if "=" in origin else f"{origin} ({override.set_by.removeprefix('pipeline.')})"
        return override.file or override.text
