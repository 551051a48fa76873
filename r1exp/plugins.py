"""Finds what installed packages add to r1exp, through the entry point group `r1exp.plugins`.

A package declares its plugin in its pyproject.toml, and defines it in a module that does not import torch:

    [project.entry-points."r1exp.plugins"]
    my_package = "my_package:plugin"

    plugin = r1exp.Plugin(
        conf=Path(__file__).parent / "conf",
        kinds={"dataset": {"subtraction": "my_package.data:Subtraction"}},
    )
"""

import importlib
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from r1exp.errors import R1ExpError, Refused

# Groups whose options have a `kind` that a plugin can add.
GROUPS = ("algorithm", "dataset", "launcher", "prompt", "rewards", "rollout", "stage", "tracking")
_GROUP = "r1exp.plugins"  # of entry points


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
        Refused: a plugin cannot be imported, is no `Plugin`, or names a group or a folder that does not exist.
    """
    found = sorted(entry_points(group=_GROUP), key=lambda entry: entry.name)
    return tuple(_plugin(entry) for entry in found)


def paths_of(group: str, own: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the kinds of a config group: kind -> import paths, more than one where packages use the same name.

    Args:
        group: The config group.
        own: The kinds that r1exp provides, and their import paths.
    """
    found = {kind: [path] for kind, path in own.items()}
    for plugin in installed_plugins():
        for kind, path in plugin.kinds.get(group, {}).items():
            found.setdefault(kind, []).append(path)
    return found


def path_of(kind: str, paths: Mapping[str, list[str]]) -> str:
    """Return the import path of a kind; a kind that is an import path is returned unchanged.

    Raises:
        ValueError: several packages provide the kind.
    """
    known = paths.get(kind, [kind])
    if len(known) > 1:
        raise ValueError(
            f"kind={kind} is provided more than once, by {' and '.join(known)}; uninstall the package that you do "
            "not need, or rename the kind in its Plugin"
        )
    return known[0]


def import_user_module(module: str) -> ModuleType:
    """Import a module that a user wrote or installed.

    Raises:
        ValueError: there is no such module, or an error is raised while it is imported; the message names the
            file and the line.
    """
    try:
        return importlib.import_module(module)
    except R1ExpError:
        raise
    except (Exception, SystemExit) as error:  # a module of a user may raise anything while it is imported
        raise ValueError(_import_problem(module, error)) from error


def _import_problem(module: str, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        return (
            f"there is no module {error.name!r}; install the package that contains it, or run r1exp in the "
            "folder that contains it"
        )
    reason = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError):
        place = f" ({error.filename}, line {error.lineno})"
        reason = f"{type(error).__name__}: {error.msg}"
    else:
        # The last statement at the top of a module that was being imported. The one in which the error was raised
        # may be in a library, whose line would not help.
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
        place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"the module {module!r} cannot be imported: {reason}{place}; repair it"


def _plugin(entry: EntryPoint) -> Plugin:
    package = "an unknown package" if entry.dist is None else entry.dist.name
    name = f"the plugin {entry.name} = {entry.value} of {package}"
    advice = f"repair it, or uninstall {package}"
    try:
        found: Any = import_user_module(entry.module)
        for attribute in entry.attr.split("."):
            found = getattr(found, attribute)
    except ValueError as error:
        raise Refused(f"{name}: {str(error).removesuffix('; repair it')}; {advice}") from error
    except AttributeError as error:
        raise Refused(f"{name}: {error}; {advice}") from error
    if not isinstance(found, Plugin):
        raise Refused(f"{name} is a {type(found).__name__}, and must be an r1exp.Plugin; {advice}")
    unknown = sorted(found.kinds.keys() - set(GROUPS))
    if unknown:
        raise Refused(
            f"{name} has kinds of {unknown[0]}, which is no group with kinds ({', '.join(GROUPS)}); {advice}"
        )
    if found.conf is not None and not found.conf.is_dir():
        raise Refused(f"{name} names the folder conf={found.conf}, which does not exist; {advice}")
    return found
