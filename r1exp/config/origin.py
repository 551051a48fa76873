"""Where does each value of a composed configuration come from: which file, or which typed word?

An experiment file says what could have been typed: `deltas` reads it back as words, for the steps of a
ladder that they reach.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hydra.core.default_element import GroupDefault, InputDefault
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from r1exp.config.compose import Composition, files_of, words_of
from r1exp.config.overrides import Word, quote
from r1exp.config.targets import CARRIED, flat


def _contents(composition: Composition) -> Iterator[tuple[str, list[InputDefault], dict[str, Any]]]:
    """Yield each file in the order in which they were merged: its path, its defaults, its dotted keys."""
    repository = GlobalHydra.instance().config_loader().repository  # type: ignore[attr-defined]
    for path, package in files_of(composition):
        if path.startswith("hydra"):
            continue
        result = repository.load_config(config_path=path)
        if result is None or not isinstance(result.config, DictConfig):
            continue
        content = OmegaConf.to_container(result.config, resolve=False)
        assert isinstance(content, dict)
        content.pop("defaults", None)
        prefix = f"{package}." if package not in ("", "_global_") else ""
        values = flat({str(key): value for key, value in content.items()})
        yield path, result.defaults_list or [], {f"{prefix}{key}": value for key, value in values.items()}


def deltas(composition: Composition) -> list[Word]:
    """Return what experiment files and sweeps say, as words; a later one wins. Needs a session."""
    found: dict[str, Word] = {}
    for path, defaults, values in _contents(composition):
        if path.split("/")[0] not in CARRIED:
            continue
        choices = {
            default.group.lstrip("/"): default.value
            for default in defaults
            if isinstance(default, GroupDefault) and default.override and default.group is not None
        }
        texts = [f"~{group}" if option is None else f"{group}={option}" for group, option in choices.items()]
        texts += [f"{key}={quote(value)}" for key, value in values.items()]
        found |= {word.key: replace(word, said_in=f"{path}.yaml") for word in words_of(texts)}
    return list(found.values())


def origins(composition: Composition, words: Sequence[Word]) -> dict[str, str]:
    """Return dotted key -> the file below conf/ (or sweeps/) or the word that set it last. Needs a session."""
    found: dict[str, str] = {}
    for path, _, values in _contents(composition):
        found |= dict.fromkeys(values, f"{path}.yaml")
    for word in words:
        if not word.is_group:
            found = {key: origin for key, origin in found.items() if not key.startswith(f"{word.key}.")}
            found[word.key] = word.said_in or word.text
    return {key: origin for key, origin in found.items() if not key.startswith("hydra.")}


def origin_of(key: str, found: dict[str, str]) -> Any:
    """Return the origin of `key`, or of the nearest key above it; `default` where only the schema says it."""
    while key:
        if key in found:
            return found[key]
        key = key.rpartition(".")[0]
    return "default"
