"""Finds what installed packages add to r1exp, through the entry point group `r1exp.plugins`.

A package declares its plugin in its pyproject.toml, and defines it in a module that does not import torch:

    [project.entry-points."r1exp.plugins"]
    my_package = "my_package:plugin"

    plugin = r1exp.Plugin(
        conf=Path(__file__).parent / "conf",
        kinds={"dataset": {"subtraction": "my_package.data:Subtraction"}},
    )
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from r1exp.errors import Refused

_GROUP = "r1exp.plugins"


@dataclass(frozen=True)
class Plugin:
    """The options that a package adds.

    Attributes:
        conf: A folder with config groups of the package, for example `conf/dataset/mine.yaml`.
        kinds: For each config group, the `kind` of each class and its import path, `package.module:Class`.
    """

    conf: Path | None = None
    kinds: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@cache
def installed_plugins() -> tuple[Plugin, ...]:
    """Return the plugins of all installed packages, sorted by name.

    Raises:
        Refused: a plugin cannot be imported, or is not a `Plugin`.
    """
    found = []
    for entry in sorted(entry_points(group=_GROUP), key=lambda entry: entry.name):
        try:
            plugin = entry.load()
        except (ImportError, AttributeError) as error:
            raise Refused(
                f"the plugin {entry.name} ({entry.value}) cannot be imported: {error}; "
                "repair or uninstall the package that provides it"
            ) from error
        if not isinstance(plugin, Plugin):
            raise Refused(
                f"the plugin {entry.name} ({entry.value}) is a {type(plugin).__name__}, not an r1exp.Plugin"
            )
        found.append(plugin)
    return tuple(found)
