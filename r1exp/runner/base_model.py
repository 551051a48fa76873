"""Finds the model that a run starts from, and makes those that are kept in the step store: tiny models, merged adapters."""

import subprocess
import sys
from pathlib import Path

from r1exp import __version__
from r1exp.errors import Refused
from r1exp.files import hash_of
from r1exp.model.adapters import base_of, is_adapter_folder
from r1exp.model.folder_hash import remembered_hash
from r1exp.model.locate import locate
from r1exp.model.settings import ModelSettings
from r1exp.model.tiny import build_tiny
from r1exp.runner.store import StepStore
from r1exp.terminal import say


def base_model(model: ModelSettings, store: StepStore) -> Path | str:
    """Return the folder or hub id that a model is loaded from; makes it in the store if it does not exist yet.

    Raises:
        Refused: it must be made, and the store cannot be written, or its adapters cannot be merged.
    """
    place = locate(model)
    if isinstance(place, Path) and is_adapter_folder(place):
        return _merged(place, store, trusts_code=model.trust_remote_code)
    if place is not None:
        return place.resolve() if isinstance(place, Path) else place
    identity = hash_of([model.built_from, __version__])
    folder = store.paths.tiny_model(identity).resolve()
    _refuse_read_only(folder, store)
    with store.lease(folder.name, on_wait=lambda: None):
        return folder if folder.is_dir() else build_tiny(model, folder)


def _merged(adapters: Path, store: StepStore, *, trusts_code: bool) -> Path:
    """Return the folder of a base model with adapters added to its weights."""
    base, revision = base_of(adapters)
    below = hash_of([str(base), revision]) if isinstance(base, str) else remembered_hash(base)
    parts = [remembered_hash(adapters), below, *(["trust_remote_code"] if trusts_code else [])]
    folder = store.paths.merged_model(hash_of(parts)).resolve()
    _refuse_read_only(folder, store)
    with store.lease(folder.name, on_wait=lambda: None):
        if not folder.is_dir():
            say(f"adding the adapters of {adapters} to the weights of {base}")
            command = [sys.executable, "-m", "r1exp.model.merge", str(adapters.resolve()), str(folder)]
            command += ["--trust-remote-code"] if trusts_code else []
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            if ended.returncode:
                lines = ended.stderr.strip().splitlines() or ["the process ended without a message"]
                raise Refused(lines[-1])
    return folder


def _refuse_read_only(model: Path, store: StepStore) -> None:
    """Raise Refused if a model must be made in a step store that cannot be written."""
    if not model.is_dir() and not store.is_writable:
        raise Refused(
            f"the model of this step must be made in the step store, which cannot be written: {model}; set paths.store=DIR"
        )
