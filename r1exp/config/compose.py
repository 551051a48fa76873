"""Hydra's part: words in, one plain dictionary out.

`session` initializes Hydra once for a process that is not already inside `hydra.main`; within it
`compose` takes about 50 ms a call.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from r1exp.config.assets import CONF, ROOT
from r1exp.config.overrides import Word, parse
from r1exp.errors import Refused
from r1exp.settings import nearest

_user_folders: list[Path] = []  # --config-dir; read by the plug-in below when Hydra starts
_groups: dict[str, list[str]] = {}  # of the session; listing folders costs more than composing


class _SweepsBesideConf(SearchPathPlugin):
    """Lets the group `sweeps` live in the top-level folder of that name."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="r1exp", path=f"file://{ROOT}")
        for folder in _user_folders:
            search_path.append(provider="command-line", path=f"file://{folder}")


def register() -> None:
    """Make Hydra of this process find sweeps/. Idempotent."""
    Plugins.instance().register(_SweepsBesideConf)


@contextmanager
def session(config_dirs: Sequence[Path] = ()) -> Iterator[None]:
    """Initialize Hydra for the calls of `compose` within; inside `hydra.main` it does nothing.

    Args:
        config_dirs: Folders of the user with groups of their own, e.g. `experiment/mine.yaml`.
    """
    if GlobalHydra.instance().is_initialized():
        yield
        return
    for folder in config_dirs:
        if not folder.is_dir():
            raise Refused(f"--config-dir {folder}: there is no such folder")
    register()
    _user_folders[:] = [folder.resolve() for folder in config_dirs]
    _groups.clear()
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="r1exp"):
        yield


@dataclass(frozen=True)
class Composition:
    """What Hydra made of a list of words."""

    values: dict[str, Any]  # resolved, plain
    choices: dict[str, str | None]  # group -> chosen option
    overrides: tuple[str, ...]  # what was handed to Hydra
    mode: str | None  # "MULTIRUN" when a file asked for it
    sweep_params: dict[str, str]  # hydra.sweeper.params


def groups() -> dict[str, list[str]]:
    """Return every config group with its options. Needs a session."""
    if not _groups:
        loader = GlobalHydra.instance().config_loader()
        names = [path.name for path in CONF.iterdir() if path.is_dir()] + ["sweeps"]
        _groups.update({name: sorted(loader.get_group_options(name)) for name in sorted(names)})
    return _groups


def compose(words: Sequence[Word], *, is_whole: bool = True) -> Composition:
    """Compose `words` over conf/config.yaml. Needs a session.

    Args:
        words: What was typed, or a part of it.
        is_whole: False: more words will come, so that values may be missing and stay unresolved.

    Raises:
        Refused: an option that does not exist, a value that is missing, an interpolation to nowhere.
    """
    known = groups()
    for word in words:
        if word.is_group:
            _check_option(word, known[word.key])
    texts = [word.for_hydra() for word in words if not word.is_sweep]
    try:
        config = hydra_compose("config", overrides=texts, return_hydra_config=True)
        hydra_node = config.hydra
        values = _plain(config, is_whole)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise Refused(_message(error)) from error
    return Composition(
        values=values,
        choices={k: v for k, v in hydra_node.runtime.choices.items() if not k.startswith("hydra/")},
        overrides=tuple(texts),
        mode=None if hydra_node.mode is None else hydra_node.mode.name,
        sweep_params={k: str(v) for k, v in (hydra_node.sweeper.get("params") or {}).items()},
    )


def files_of(composition: Composition) -> list[tuple[str, str]]:
    """Return (config file, package) in the order in which they were merged. Needs a session."""
    loader = GlobalHydra.instance().config_loader()
    defaults = loader.compute_defaults_list("config", list(composition.overrides), run_mode=RunMode.RUN)
    return [(entry.config_path or "", entry.package or "") for entry in defaults.defaults]


def _plain(config: DictConfig, is_whole: bool) -> dict[str, Any]:
    OmegaConf.set_readonly(config, False)
    OmegaConf.set_struct(config, False)
    config.pop("hydra")
    plain = OmegaConf.to_container(config, resolve=is_whole, throw_on_missing=is_whole)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _check_option(word: Word, options: list[str]) -> None:
    if word.is_sweep or not word.value:
        return
    value = word.value.strip("'\"")
    if value in ("null", "") or value in options:
        if value != "null":
            return
        raise Refused(f"{word.text}: a group takes the name of an option, one of: {', '.join(options)}")
    close = nearest(value, options)
    hint = f" Did you mean {word.key}={close[0]}?" if close else ""
    raise Refused(f"{word.key}={value}: no such option.{hint} {word.key} has: {', '.join(options)}")


def _message(error: Exception) -> str:
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        place = error.problem_mark
        return f"{place.name}, line {place.line + 1}, column {place.column + 1}: no YAML ({error.problem})"
    first = str(error).splitlines()[0]
    key = getattr(error, "full_key", None)
    if isinstance(error, MissingMandatoryValue) and key:
        return f"{key} has no value yet; give one: {key}=..."
    if isinstance(error, InterpolationKeyError) and key:
        return f"{key} points to a key that does not exist: {first}"
    return f"the configuration does not compose: {first}"


def words_of(texts: Sequence[str]) -> list[Word]:
    """Parse a command line's overrides with the groups of this session."""
    return parse(texts, groups())
