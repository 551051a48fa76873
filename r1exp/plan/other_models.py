"""Checks and hashes the models that a step loads in addition to its start model. Torch-free."""

from pathlib import Path

from r1exp.model.folder_hash import remembered_hash
from r1exp.model.locate import check_model
from r1exp.plan.references import PREFIX
from r1exp.stage.config import StepConfig


def other_models(config: StepConfig) -> dict[str, str]:
    """Return dotted key -> folder or hub id, without models that an earlier step makes."""
    return {key: path for key, path in config.other_models().items() if not path.startswith(PREFIX)}


def refuse_missing_models(config: StepConfig) -> None:
    """Raise Refused for a model that is neither in a folder, nor in the cache, nor on the hub."""
    for key, path in other_models(config).items():
        check_model(key, path)


def hashes_of_models(config: StepConfig) -> dict[str, str]:
    """Return dotted key -> hash of the files, for models in folders; the hashes are part of the step's key."""
    return {
        key: remembered_hash(Path(path)) for key, path in other_models(config).items() if Path(path).is_dir()
    }
