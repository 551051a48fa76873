"""Config sources for Hydra: the files of conf/ under a separate folder for each step, and a cache of parsed files.

The steps of a pipeline are composed together in one composition. In it, the files of conf/ exist for the step NAME
below the folder `step/NAME`, and its values are composed below the key `step.NAME`:

    conf/algorithm/ppo.yaml               seen as  step/rl/algorithm/ppo
    # @package _global_                   read as  # @package _global_.step.rl
    defaults: [override /rewards: null]   read as  defaults: [override /step/rl/rewards: null]
"""

import pickle
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf, flag_override

from r1exp.errors import Refused

FOLDER = "step"
_SCHEME = "step"
_GLOBAL = "_global_"
_CACHED = ("file", "pkg", _SCHEME)  # Hydra keeps structured configs in memory


class StepSource(ConfigSource):
    """Serves the files of every other source below `step/NAME/`."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme of this source's address, `step://conf`."""
        return _SCHEME

    def available(self) -> bool:
        """Return True; the other sources are searched when a file is read."""
        return True

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the file for the step that its path names.

        Raises:
            ConfigLoadError: no other source has the file.
        """
        step, path = _split(config_path)
        source = next((source for source in _others() if path and source.is_config(path)), None)
        if step is None or source is None:
            raise ConfigLoadError(f"Config not found: {config_path}")
        found = source.load_config(path)
        prefix = f"{FOLDER}.{step}"
        header = dict(found.header)
        package = header.get("package")
        if package is not None:
            inner = package.removeprefix(_GLOBAL).lstrip(".")
            header["package"] = ".".join(part for part in (_GLOBAL, prefix, inner) if part)
        config = found.config
        if isinstance(config, DictConfig) and "defaults" in config:
            entries = OmegaConf.to_container(config.defaults, resolve=False)
            assert isinstance(entries, list)
            moved = [_moved(entry, step, package) for entry in entries]
            with flag_override(config, ["struct", "readonly"], [False, False]):
                config["defaults"] = [entry for entry in moved if entry is not None]
        return ConfigResult(provider=found.provider, path=found.path, config=config, header=header)

    def is_group(self, config_path: str) -> bool:
        """Whether there is such a folder."""
        step, path = _split(config_path)
        return step is not None and any(source.is_group(path) for source in _others())

    def is_config(self, config_path: str) -> bool:
        """Whether there is such a file."""
        step, path = _split(config_path)
        return step is not None and bool(path) and any(source.is_config(path) for source in _others())

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return what is in a folder."""
        step, path = _split(config_path)
        if step is None:
            return []
        sources = [source for source in _others() if source.is_group(path)]
        return sorted({name for source in sources for name in source.list(path, results_filter)})


class CachedSource(ConfigSource):
    """Caches the parsed files of a source, because Hydra reads each of them several times.

    Args:
        source: The source whose files are cached.
    """

    def __init__(self, source: ConfigSource) -> None:
        # The base class would check the path against the scheme again.
        self._source = source
        self.provider, self.path = source.provider, source.path
        self._results: dict[str, bytes] = {}  # pickled, which is copied several times faster than an object

    def __deepcopy__(self, memo: dict[int, Any]) -> "CachedSource":
        """Return this source: Hydra copies its sources for each composition, and would copy the cache with them."""
        del memo
        return self

    def scheme(self) -> str:  # type: ignore[override]  # static in the base class
        """Return the scheme of the source."""
        return str(self._source.scheme())

    def available(self) -> bool:
        """Whether the source is available."""
        return bool(self._source.available())

    def load_config(self, config_path: str) -> ConfigResult:
        """Return a copy of the parsed file, because Hydra may change it."""
        if config_path not in self._results:
            try:
                self._results[config_path] = pickle.dumps(self._source.load_config(config_path))
            except ValueError as error:  # bytes that are no UTF-8, or a defaults list that is none
                place = f"{self._source.path}/{config_path}".removeprefix("file://").removesuffix(".yaml")
                raise Refused(f"{place}.yaml cannot be read: {error}") from error
        found: ConfigResult = pickle.loads(self._results[config_path])
        return found

    def is_group(self, config_path: str) -> bool:
        """Whether there is such a folder."""
        return bool(self._source.is_group(config_path))

    def is_config(self, config_path: str) -> bool:
        """Whether there is such a file."""
        return config_path in self._results or bool(self._source.is_config(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return what is in a folder."""
        return list(self._source.list(config_path, results_filter))


def cache_sources() -> None:
    """Make the sources of the current session parse each file once."""
    repository = _repository()
    repository.sources = [
        CachedSource(source) if source.scheme() in _CACHED else source for source in repository.sources
    ]


def file_sources() -> list[ConfigSource]:
    """Return the sources of the current session that read files, in the order in which they are searched."""
    return [source for source in _repository().sources if source.scheme() in _CACHED]


def _repository() -> Any:
    return GlobalHydra.instance().config_loader().repository  # type: ignore[attr-defined]


def _others() -> list[ConfigSource]:
    return [source for source in _repository().sources if source.scheme() != _SCHEME]


def _split(config_path: str) -> tuple[str | None, str]:
    """Return the step and the path below its folder; None if the path is not below a step's folder."""
    folder, _, rest = config_path.partition("/")
    step, _, path = rest.partition("/")
    return (step, path) if folder == FOLDER and step else (None, "")


def _moved(entry: Any, step: str, package: str | None) -> Any:
    """Return an entry of a defaults list for a step; None for an entry of Hydra's own groups, which is dropped.

    Args:
        entry: `_self_`, a file, or {group: option} with `override` or `optional` before the group.
        step: The step.
        package: The package of the file that contains the entry.
    """
    if not isinstance(entry, dict):
        return f"/{FOLDER}/{step}{entry}" if str(entry).startswith("/") else entry
    ((key, option),) = entry.items()
    *keywords, group = str(key).split(" ")
    if group.lstrip("/").startswith("hydra/"):
        return None
    group, at, own_package = group.partition("@")
    if own_package.startswith(_GLOBAL):
        inner = own_package.removeprefix(_GLOBAL).lstrip(".")
        own_package = ".".join(part for part in (_GLOBAL, FOLDER, step, inner) if part)
    elif not at and group.startswith("/") and package == _GLOBAL:
        # In a global file the package of an absolute group starts at the root, so that it is stated here.
        at, own_package = "@", f"{_GLOBAL}.{FOLDER}.{step}{group.replace('/', '.')}"
    if group.startswith("/"):
        group = f"/{FOLDER}/{step}{group}"
    return {" ".join([*keywords, f"{group}{at}{own_package}"]): option}
