"""Reads folders that hold LoRA adapters and name their base model, as peft saves them. Torch-free.

`model.path=ADAPTERS` trains or measures the base model with the adapters added to its weights: before the first step
`r1exp.model.merge` writes such a model to the step store, once, and every step reads it there. With `model.lora.r` new
adapters are trained on top of it.
"""

from pathlib import Path
from typing import Any

from r1exp.errors import Refused
from r1exp.files import read_object

CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def is_adapter_folder(folder: Path) -> bool:
    """Whether a folder holds adapters and not a model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def base_of(folder: Path) -> tuple[Path | str, str | None]:
    """Return the folder or hub id of the model that adapters belong to, and its revision (None: main).

    Raises:
        Refused: the folder does not name its base model, or lacks the adapters.
    """
    config: dict[str, Any] = read_object(folder / CONFIG, "model.path")
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise Refused(
            f"model.path={folder}: {CONFIG} does not name the model that the adapters belong to; write its folder or "
            "hub id there as base_model_name_or_path"
        )
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise Refused(
            f"model.path={folder}: the folder holds {CONFIG} but no adapters ({' or '.join(_WEIGHTS)}); copy it again"
        )
    place = Path(base).expanduser()
    if not place.exists():
        return base, config.get("revision")
    if not (place / "config.json").is_file():
        raise Refused(
            f"model.path={folder}: {CONFIG} names {base} as its base model, and that folder has no config.json; "
            "write the right folder or hub id there as base_model_name_or_path"
        )
    return place, None
