"""Where does each value of a composed configuration come from: which file, or which typed word?"""

from collections.abc import Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from r1exp.config.compose import Composition, files_of
from r1exp.config.overrides import Word
from r1exp.pipeline.reach import flat


def origins(composition: Composition, words: Sequence[Word]) -> dict[str, str]:
    """Return dotted key -> the file below conf/ (or sweeps/) or the word that set it last. Needs a session."""
    found: dict[str, str] = {}
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
        found |= {f"{prefix}{key}": f"{path}.yaml" for key in flat({str(k): v for k, v in content.items()})}
    for word in words:
        if not word.is_group:
            found = {key: origin for key, origin in found.items() if not key.startswith(f"{word.key}.")}
            found[word.key] = word.text
    return {key: origin for key, origin in found.items() if not key.startswith("hydra.")}


def origin_of(key: str, found: dict[str, str]) -> Any:
    """Return the origin of `key`, or of the nearest key above it; `default` where only the schema says it."""
    while key:
        if key in found:
            return found[key]
        key = key.rpartition(".")[0]
    return "default"
