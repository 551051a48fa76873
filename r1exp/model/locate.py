"""Where is the model that `model.path` names: a folder, an earlier run, or the hub? Torch-free, offline."""

import re
from pathlib import Path

from r1exp.errors import Refused
from r1exp.files import read_json
from r1exp.model.settings import ModelSettings

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")  # owner/name


def locate(settings: ModelSettings) -> Path | str | None:
    """Return the folder of the model, or its hub id, or None where the model is built here.

    The directory of a run stands for the model of its last finished training step.

    Raises:
        Refused: a path that is neither a model, nor a run that made one, nor a hub id.
    """
    if settings.path is None:
        return None
    folder = Path(settings.path).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if (folder / "manifest.json").is_file():
        return _model_of_run(folder)
    if folder.is_dir():
        raise Refused(
            f"model.path={settings.path}: the folder holds neither a model (config.json) nor a run (manifest.json)"
        )
    if folder.exists() or not _HUB_ID.fullmatch(settings.path):
        raise Refused(
            f"model.path={settings.path}: there is no such folder, and a hub id looks like owner/name; "
            "give a folder with config.json, the directory of a run, or a hub id"
        )
    return settings.path


def _model_of_run(run: Path) -> Path:
    for status in sorted(run.glob("steps/*/status.json"), reverse=True):
        content = read_json(status)
        is_model = (content.get("artifact") or {}).get("kind") == "model"
        if content["state"] == "done" and is_model:
            return status.parent / "artifact"
    raise Refused(
        f"model.path={run}: no step of that run has finished with a model; see {run / 'summary.json'}"
    )
