"""Composes the suites of an evaluation and the parts of a mixture: their data sets can be named like the run's own.

    evaluation.suites=[gsm8k,math500]             is  suites=[gsm8k,math500], options of the config group conf/suites/
    evaluation.suites.mine.dataset=gsm8k          is  {preset: gsm8k}, an option of the group dataset
    evaluation.suites.mine.dataset.path=my/file   changes a setting of it, whoever has chosen it
    dataset.parts.math=gsm8k                      is  {preset: gsm8k}, as a part of dataset=mixture
    stage.contamination.against.mine.dataset=aime  names a data set in the same way (stage=filter)

Hydra composes the options of conf/suites/ into `evaluation.suites`. A data set or prompt that is a name, or has the key
`preset`, is then replaced by the settings of that option, with the other keys over them. Where an option of dataset sets
`max_completion_length`, that is the suite's `max_tokens`, unless the suite sets its own. A part may also be chosen in a
defaults list of Hydra: `/dataset@dataset.parts.math: gsm8k`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from r1exp.errors import Refused
from r1exp.settings import nearest

PRESET = "preset"
_SUITES = "evaluation.suites"
# Where data sets and prompts are named -> which of these groups.
_NAMED = {_SUITES: ("dataset", "prompt"), "stage.contamination.against": ("dataset",)}
_LENGTH = "max_completion_length"
Options = Mapping[str, Sequence[str]]


def fill_presets(config: DictConfig, options: Options, composed: Callable[[str], DictConfig]) -> None:
    """Replace the names of data sets and prompts in suites and mixtures by their settings, in place.

    Args:
        config: A composed, unresolved configuration that can be changed.
        options: Config group -> its options.
        composed: Returns the configuration of an override that chooses an option, `+dataset=gsm8k`; it is only read.

    Raises:
        Refused: an option does not exist.
    """
    _fill_parts("dataset", config.get("dataset"), options, composed)
    for place, groups in _NAMED.items():
        entries = OmegaConf.select(config, place)
        if not isinstance(entries, DictConfig):
            continue  # another stage, or refused by the validation
        with open_dict(config):
            for name, entry in entries.items():
                if not isinstance(entry, DictConfig):
                    continue
                for group in groups:
                    _fill(f"{place}.{name!s}.{group}", entry, group, options, composed)
                _fill_parts(f"{place}.{name!s}.dataset", entry.get("dataset"), options, composed)


def _fill(
    place: str, entry: DictConfig, group: str, options: Options, composed: Callable[[str], DictConfig]
) -> None:
    found = _chosen(place, entry.get(group), group, options, composed)
    if found is None:
        return
    preset, own = found
    entry[group] = OmegaConf.merge(preset[group], own)
    is_suite = place.startswith(_SUITES)
    if is_suite and entry.get("max_tokens") is None and _LENGTH in preset:
        entry["max_tokens"] = preset[_LENGTH]


def _fill_parts(place: str, dataset: Any, options: Options, composed: Callable[[str], DictConfig]) -> None:
    """Replace the names of the parts of a mixture by their settings, in place."""
    parts = dataset.get("parts") if isinstance(dataset, DictConfig) else None
    if not isinstance(parts, DictConfig):
        return
    with open_dict(parts):
        for name, part in parts.items():
            found = _chosen(f"{place}.parts.{name!s}", part, "dataset", options, composed)
            if found is not None:
                preset, own = found
                parts[name] = OmegaConf.merge(preset["dataset"], own)
            elif isinstance(part, DictConfig) and "dataset" in part and "kind" not in part:
                # Of a defaults list, from a file that is `# @package _global_` and sets a length too.
                below = part.pop("dataset")
                part.pop(_LENGTH, None)
                parts[name] = OmegaConf.merge(below, part)


def _chosen(
    place: str, given: Any, group: str, options: Options, composed: Callable[[str], DictConfig]
) -> tuple[DictConfig, Any] | None:
    """Return the configuration of the option that a value names, and the settings given over it; None: it names none."""
    own: Any = {}
    if isinstance(given, DictConfig) and PRESET in given:
        own = given.copy()
        given = own.pop(PRESET)
    if not isinstance(given, str):
        return None
    if given not in options[group]:
        close = nearest(given, options[group])
        hint = f" Did you mean {close[0]}?" if close else ""
        raise Refused(f"{place}={given}: no such option.{hint} {group} has: {', '.join(options[group])}")
    preset = composed(f"+{group}={given}")
    return preset, own
