"""Checks and hashes the models that a step loads in addition to its start model. Torch-free."""

from collections.abc import Mapping
from pathlib import Path

from r1exp.model.folder_hash import remembered_hash
from r1exp.model.locate import check_model, locate
from r1exp.model.remote_code import refuse_other_code
from r1exp.model.settings import ModelSettings
from r1exp.plan.references import PREFIX
from r1exp.stage.config import StepConfig


def other_models(config: StepConfig) -> dict[str, str]:
    """Return dotted key -> folder or hub id, without models that an earlier step makes."""
    return {key: path for key, path in config.other_models().items() if not path.startswith(PREFIX)}


def refuse_missing_models(config: StepConfig) -> None:
    """Raise Refused for a model that is neither in a folder, nor in the cache, nor on the hub."""
    for key, path in other_models(config).items():
        check_model(key, path)


def refuse_code_of_artifacts(config: StepConfig, starts: Mapping[str, ModelSettings]) -> None:
    """Raise Refused if a step loads the artifact of an earlier step, beside its policy, and that needs code of its own.

    Args:
        config: Settings of the step.
        starts: Name of each earlier step -> the model that its weights come from.
    """
    for key, path in config.other_models().items():
        model = starts.get(path.removeprefix(PREFIX).partition("/")[0]) if path.startswith(PREFIX) else None
        if model is not None:
            refuse_other_code(key, model, locate(model))


def hashes_of_models(config: StepConfig) -> dict[str, str]:
    """Return dotted key -> hash of the files, for models in folders; the hashes are part of the step's key."""
    return {
        key: remembered_hash(Path(path)) for key, path in other_models(config).items() if Path(path).is_dir()
    }
