"""Composes overrides with Hydra into plain dictionaries.

`session` initializes Hydra for a process that is not already inside `hydra.main`. A run takes at most two
compositions: `compose` for the run, and `compose_steps` for all steps of its pipeline together.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import InputDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from r1exp.assets import CONF, ROOT
from r1exp.config.options import SWEEPER, check_options
from r1exp.config.overrides import READ_VARIABLE, Override, expand, first_of, listed_globs, parse, quote
from r1exp.config.sources import FOLDER, StepSource, cache_sources, file_sources
from r1exp.config.suites import fill_presets
from r1exp.errors import Refused
from r1exp.plugins import import_user_module, installed_plugins

_SEARCHPATH = "hydra.searchpath"
_MISSING_VARIABLE = re.compile(r"Environment variable '(\w+)' not found")
_EXISTS = re.compile(r"Could not append to config. An item is already at '([^']+)'")
_HYDRA = "hydra"  # folder of the options of Hydra's own groups
_user_paths: list[str] = []  # addresses of the user's folders; read by the plug-in below when Hydra starts
# Cache of the session, because listing folders takes longer than composing.
_groups: dict[str, list[str]] = {}


class _SearchPath(SearchPathPlugin):
    """Adds sweeps/, the folders of installed plugins, and the user's own to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="r1exp", path=f"file://{ROOT}")
        search_path.append(provider="r1exp-steps", path="step://conf")
        for plugin in installed_plugins():
            if plugin.conf is not None:
                search_path.append(provider="r1exp-plugin", path=f"file://{plugin.conf.resolve()}")
        for path in _user_paths:
            search_path.append(provider="command-line", path=path)


@contextmanager
def session(config_dirs: Sequence[Path] = (), search_path: Sequence[str] = ()) -> Iterator[None]:
    """Initialize Hydra for the calls of `compose` within; inside `hydra.main` nothing is done.

    Args:
        config_dirs: Folders of the user with config groups, for example `experiment/mine.yaml`.
        search_path: Further folders as `hydra.searchpath` names them: `file://FOLDER` or `pkg://PACKAGE`.

    Raises:
        Refused: there is no such folder, or an option in it has the name of another one.
    """
    if GlobalHydra.instance().is_initialized():
        yield
        return
    for folder in config_dirs:
        if not folder.is_dir():
            raise Refused(f"--config-dir {folder}: there is no such folder")
    OmegaConf.register_new_resolver(READ_VARIABLE, _variable, replace=True)
    for plugin in (_SearchPath, StepSource):
        Plugins.instance().register(plugin)
    _leave_out_replaced_schemas()
    addresses = [*(f"file://{folder.resolve()}" for folder in config_dirs), *search_path]
    _user_paths[:] = [address for address in dict.fromkeys(addresses) if address != f"file://{CONF}"]
    _groups.clear()
    _files.cache_clear()
    content_of.cache_clear()
    _composed_option.cache_clear()
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="r1exp"):
        _refuse_ambiguous_options()
        cache_sources()
        yield


def _variable(name: str, *default: Any) -> Any:
    """Return an environment variable as the value that it would be on the command line: 3 as a number."""
    if name not in os.environ:
        if default:
            return default[0]
        raise KeyError(f"Environment variable '{name}' not found")
    try:
        return OmegaConf.to_object(OmegaConf.create(f"value: {os.environ[name]}"))["value"]  # type: ignore[index,call-overload]
    except (YAMLError, OmegaConfBaseException):  # text that YAML cannot read
        return os.environ[name]


def _leave_out_replaced_schemas() -> None:
    """Remove the sweepers of plug-ins for which conf/hydra/sweeper/ has a file of the same name.

    Hydra would refuse that file, because a schema of that name exists; r1exp's file states other defaults.
    """
    schemas = ConfigStore.instance().repo.get("hydra", {}).get("sweeper", {})
    for path in (CONF / SWEEPER).glob("*.yaml"):
        schemas.pop(path.name, None)


def _refuse_ambiguous_options() -> None:
    """Refuse an option that two folders contain. Hydra would silently read the first: r1exp's, then a plugin's."""
    if not _user_paths and all(plugin.conf is None for plugin in installed_plugins()):
        return
    found: dict[str, str] = {}  # group/option -> address of the folder
    for source in file_sources():
        for group in _group_names():
            names = source.list(group, ObjectType.CONFIG) if source.is_group(group) else []
            for name in names:
                option = f"{group}/{name}"
                other = found.setdefault(option, source.path)
                if other != source.path:
                    raise Refused(
                        f"{option}.yaml is in {other} and in {source.path}, and only the first would be read; rename "
                        "the second"
                    )


def search_path_of(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the folders that `hydra.searchpath=[...]` names, and the other arguments.

    They are part of the session, so that options in them are known before anything is composed.

    Raises:
        Refused: a value that is no list of `file://` or `pkg://` addresses, or a folder that does not exist.
    """
    folders: list[str] = []
    others: list[str] = []
    for text in arguments:
        key, _, value = text.lstrip("+").partition("=")
        if key != _SEARCHPATH:
            others.append(text)
            continue
        folders += [_folder_of(address, text) for address in _listed(value, text)]
    return folders, others


def _listed(value: str, text: str) -> list[str]:
    try:
        listed = OmegaConf.to_object(OmegaConf.create(f"value: {value}"))
    except (YAMLError, OmegaConfBaseException):
        listed = {"value": None}
    assert isinstance(listed, dict)
    addresses = listed["value"] if isinstance(listed["value"], list) else [listed["value"]]
    if not all(isinstance(address, str) for address in addresses):
        raise Refused(f"{text}: give a list of folders, hydra.searchpath=[file://FOLDER]")
    return addresses


def _folder_of(address: str, text: str) -> str:
    if address.startswith("pkg://"):
        try:
            import_user_module(address.removeprefix("pkg://").replace("/", "."))
        except ValueError as error:
            raise Refused(f"{text}: {error}") from error
        return address
    folder = Path(address.removeprefix("file://")).expanduser()
    if not folder.is_dir():
        raise Refused(
            f"{text}: {folder} is no folder; give a list of folders, hydra.searchpath=[file://FOLDER]"
        )
    return f"file://{folder.resolve()}"


@dataclass(frozen=True)
class Composition:
    """A composed configuration."""

    config: DictConfig  # unresolved, without the node `hydra`
    config_name: str | None
    overrides: tuple[str, ...]  # what was passed to Hydra
    parsed: tuple[Override, ...] = ()  # the overrides of a run, those that list several values included
    prefix: str = ""  # `step/NAME` for one step of a composition of several
    hydra: DictConfig | None = None  # the whole configuration, with the node `hydra`
    place: str = ""  # prefix of messages

    @cached_property
    def values(self) -> dict[str, Any]:
        """Plain, resolved values.

        Raises:
            Refused: a value is missing, or an interpolation names a key that does not exist.
        """
        try:
            plain = OmegaConf.to_container(self.config, resolve=True, throw_on_missing=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise Refused(f"{self.place}{_message(error)}") from error
        assert isinstance(plain, dict)
        return {str(key): value for key, value in plain.items()}

    @property
    def choices(self) -> dict[str, str | None]:
        """Config group -> chosen option."""
        return {} if self.hydra is None else dict(self.hydra.hydra.runtime.choices)

    @property
    def is_multirun(self) -> bool:
        """Whether a composed file sets Hydra's mode to MULTIRUN."""
        return self.hydra is not None and self.hydra.hydra.mode == RunMode.MULTIRUN

    @property
    def sweep_params(self) -> dict[str, str]:
        """`hydra.sweeper.params`: key -> values as in an override.

        Raises:
            Refused: it is no mapping.
        """
        params = {} if self.hydra is None else self.hydra.hydra.sweeper.get("params") or {}
        if not isinstance(params, DictConfig | dict):
            raise Refused(
                f"hydra.sweeper.params is {params}, and must be a mapping of keys to values as on the command line: "
                '{seed: "1,2,3", beta: "0,0.01"}'
            )
        return {str(key): _listed_values(str(key), value) for key, value in params.items()}

    def sweep_folder(self) -> Path:
        """Return the folder of a multirun, `hydra.sweep.dir`."""
        assert self.hydra is not None
        return Path(str(self.hydra.hydra.sweep.dir))

    def configure_logging(self) -> None:
        """Show the debug messages that `hydra.verbose` asks for: true, the name of a logger, or a list of names."""
        if self.hydra is not None and self.hydra.hydra.verbose:
            configure_log(self.hydra.hydra.job_logging, self.hydra.hydra.verbose)

    def files(self) -> list[tuple[str, str]]:
        """Return (config file, package) in the order in which they were merged. Needs the session."""
        found = []
        for path, package in _files(self.config_name, self.overrides):
            if self.prefix:
                if not path.startswith(f"{self.prefix}/"):
                    continue
                path = path.removeprefix(f"{self.prefix}/")
                package = package.removeprefix(self.prefix.replace("/", ".")).removeprefix(".")
            found.append((path, package))
        return found


def _listed_values(key: str, value: Any) -> str:
    """Return the values that a sweep file gives for a key, as in an override."""
    if isinstance(value, ListConfig | list):
        raise Refused(
            f"hydra.sweeper.params.{key} is a YAML list, which would be one value; write the values as text: "
            f'{key}: "{",".join(str(item) for item in value)}"'
        )
    if isinstance(value, bool) or value is None:
        return quote(value)
    return str(value)


@cache
def _files(config_name: str | None, overrides: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return what `Composition.files` returns, for all steps of a composition together."""
    loader = GlobalHydra.instance().config_loader()
    defaults = loader.compute_defaults_list(config_name, list(overrides), run_mode=RunMode.RUN)
    return tuple((entry.config_path or "", entry.package or "") for entry in defaults.defaults)


@cache
def content_of(path: str) -> tuple[list[InputDefault], dict[str, Any]]:
    """Return the defaults list and the unresolved values of a configuration file. Needs a session."""
    repository = GlobalHydra.instance().config_loader().repository  # type: ignore[attr-defined]
    result = repository.load_config(config_path=path)
    if result is None or not isinstance(result.config, DictConfig):
        return [], {}
    content = OmegaConf.to_container(result.config, resolve=False)
    assert isinstance(content, dict)
    return result.defaults_list or [], {
        str(key): value for key, value in content.items() if key != "defaults"
    }


def groups() -> dict[str, list[str]]:
    """Return every config group with its options. Needs a session."""
    if not _groups:
        # Not from the loader, which copies its repository for each question.
        repository = GlobalHydra.instance().config_loader().repository  # type: ignore[attr-defined]
        _groups.update({name: repository.get_group_options(name) for name in _group_names()})
    return _groups


def _group_names() -> list[str]:
    folders = [path.name for path in CONF.iterdir() if path.is_dir() and path.name != _HYDRA]
    return sorted([*folders, "sweeps"])


def text_of_option(group: str, option: str) -> str:
    """Return the text of the file of an option, with its comments. Needs a session."""
    for source in file_sources():
        folder = Path(str(source.path).removeprefix("file://"))
        path = folder / group / f"{option}.yaml"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return ""


def parsed(arguments: Sequence[str]) -> list[Override]:
    """Parse overrides with the groups of this session."""
    return parse(arguments, groups())


def expanded(arguments: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the overrides of each member of a sweep. Needs a session."""
    return expand(arguments, GlobalHydra.instance().config_loader())


def as_choices(text: str) -> str:
    """Return an override with `glob(...)` replaced by the options it matches, which sweeper plug-ins cannot list."""
    return listed_globs(text, GlobalHydra.instance().config_loader())


def first_value(text: str) -> str:
    """Return an override of a sweep with the first of its values. Needs a session."""
    return first_of(text, GlobalHydra.instance().config_loader())


def compose(overrides: Sequence[Override]) -> Composition:
    """Compose overrides over conf/config.yaml. Needs a session. Overrides that list several values are left out.

    Raises:
        Refused: an option that does not exist, or files that cannot be composed.
    """
    chosen = [override for override in overrides if not override.is_sweep]
    check_options(overrides, groups())
    texts = tuple(override.for_hydra() for override in chosen)
    whole = _compose("config", texts, with_hydra=True)
    config = whole.copy()
    OmegaConf.set_readonly(config, False)
    OmegaConf.set_struct(config, False)
    config.pop("hydra")
    fill_presets(config, groups(), _composed_option)
    return Composition(config, "config", texts, parsed=tuple(overrides), hydra=whole)


def compose_steps(steps: Mapping[str, Sequence[Override]]) -> dict[str, Composition]:
    """Compose all steps of a pipeline in one composition. Needs a session.

    Args:
        steps: The name of each step and its overrides, in order of increasing precedence.

    Raises:
        Refused: for the same reasons as `compose`.
    """
    texts: list[str] = []
    for name, overrides in steps.items():
        check_options(overrides, groups(), f"step {name}: ")
        prefix = f"{FOLDER}/{name}"
        texts += [f"+{prefix}=config", *(override.for_step(prefix) for override in overrides)]
    whole = _compose(None, tuple(texts), with_hydra=False)
    foreign = [str(key) for key in whole if key != FOLDER]
    if foreign:
        raise Refused(
            f"{foreign[0]}: a config file sets this key outside of its step; give the file "
            "`# @package _global_` as its first line, and no package in its defaults list"
        )
    return {name: _of_step(whole, name, tuple(texts)) for name in steps}


def _of_step(whole: DictConfig, name: str, texts: tuple[str, ...]) -> Composition:
    content = OmegaConf.to_container(whole[FOLDER][name], resolve=False)
    assert isinstance(content, dict)
    content.pop("hydra", None)  # Hydra's settings belong to the run
    config = OmegaConf.create(content)
    fill_presets(config, groups(), _composed_option)
    return Composition(config, None, texts, prefix=f"{FOLDER}/{name}", place=f"step {name}: ")


@cache
def _composed_option(text: str) -> DictConfig:
    """Return what an override that chooses an option sets; the members of a sweep read the same one."""
    option = _compose(None, (text,), with_hydra=False)
    OmegaConf.set_struct(option, False)  # an unknown key over it is refused by the validation
    return option


def _compose(config_name: str | None, texts: tuple[str, ...], *, with_hydra: bool) -> DictConfig:
    try:
        return hydra_compose(config_name, overrides=list(texts), return_hydra_config=with_hydra)
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise Refused(_message(error)) from error


def _message(error: Exception) -> str:
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        place = error.problem_mark
        return f"{place.name}, line {place.line + 1}, column {place.column + 1}: not valid YAML ({error.problem})"
    lines = str(error).splitlines() or [type(error).__name__]
    # Hydra names the file on the first line and the reason on the second.
    first = " ".join(lines[:2]) if lines[0].endswith("composing config:") else lines[0]
    key = getattr(error, "full_key", None)
    variable = _MISSING_VARIABLE.search(str(error))
    if variable is not None:
        return (
            f"{key or 'a value'} reads the environment variable {variable[1]}, which is not set; set it, or give a "
            f"default: '${{oc.env:{variable[1]},...}}'"
        )
    exists = _EXISTS.search(first)
    if exists is not None:
        return f"{exists[1]} exists already, and + adds a new key; type {exists[1]}=... without the +"
    if isinstance(error, MissingMandatoryValue) and key:
        return f"{key} has no value yet; give one: {key}=..."
    if isinstance(error, InterpolationKeyError) and key:
        return f"{key} points to a key that does not exist: {first}"
    return f"the configuration cannot be composed: {first}"


def as_override(key: str, value: Any) -> str:
    """Return the text of the override that sets `key` to `value`."""
    return f"{key}={quote(value)}"
