"""Composes the suites of an evaluation: their data set and prompt can be named like the run's own.

    evaluation.suites=[gsm8k,math500]             is  suites=[gsm8k,math500], options of the config group conf/suites/
    evaluation.suites.mine.dataset=gsm8k          is  {preset: gsm8k}, an option of the group dataset
    evaluation.suites.mine.dataset.path=my/file   changes a setting of it, whoever has chosen it
    stage.contamination.against.mine.dataset=aime  names a data set in the same way (stage=filter)

Hydra composes the options of conf/suites/ into `evaluation.suites`. A data set or prompt that is a name, or has the key
`preset`, is then replaced by the settings of that option, with the other keys over them. Where an option of dataset sets
`max_completion_length`, that is the suite's `max_tokens`, unless the suite sets its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from r1exp.errors import Refused
from r1exp.settings import nearest

PRESET = "preset"
# Where data sets and prompts are named -> which of these groups.
_NAMED = {"evaluation.suites": ("dataset", "prompt"), "stage.contamination.against": ("dataset",)}
_LENGTH = "max_completion_length"
Options = Mapping[str, Sequence[str]]


def fill_presets(config: DictConfig, options: Options, composed: Callable[[str], DictConfig]) -> None:
    """Replace the names of data sets and prompts in suites by their settings, in place.

    Args:
        config: A composed, unresolved configuration that can be changed.
        options: Config group -> its options.
        composed: Returns the configuration of an override that chooses an option, `+dataset=gsm8k`.

    Raises:
        Refused: an option does not exist.
    """
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


def _fill(
    place: str, suite: DictConfig, group: str, options: Options, composed: Callable[[str], DictConfig]
) -> None:
    given = suite.get(group)
    own: Any = {}
    if isinstance(given, DictConfig) and PRESET in given:
        own = given.copy()
        given = own.pop(PRESET)
    if not isinstance(given, str):
        return
    if given not in options[group]:
        close = nearest(given, options[group])
        hint = f" Did you mean {close[0]}?" if close else ""
        raise Refused(f"{place}={given}: no such option.{hint} {group} has: {', '.join(options[group])}")
    preset = composed(f"+{group}={given}")
    suite[group] = OmegaConf.merge(preset[group], own)
    is_suite = place.startswith("evaluation.")
    if is_suite and suite.get("max_tokens") is None and _LENGTH in preset:
        suite["max_tokens"] = preset[_LENGTH]
