"""Resolves `model.path` to a folder of a model or of adapters, the artifact of an earlier run, or a hub id. Torch-free.

`locate` makes no network request. `check_hub` makes one, and reports within seconds a problem that
the library reports only after minutes of retries.
"""

import re
from pathlib import Path

from r1exp.errors import Refused
from r1exp.files import read_object
from r1exp.model.adapters import base_of, is_adapter_folder
from r1exp.model.remote_code import refuse_code
from r1exp.model.settings import ModelSettings
from r1exp.model.tiny import check_tiny
from r1exp.model.tokenizer import END, PAD
from r1exp.paths import ArtifactPaths, RunPaths, StepPaths

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")  # owner/name
_HUB_TIMEOUT = 10.0  # seconds


def locate(settings: ModelSettings) -> Path | str | None:
    """Return the folder of the model, its hub id, or None if the model is built on this machine.

    For the directory of a run, the model of its last finished training step is returned; for the
    directory of a step, the model of that step. A folder of adapters is returned as it is (`r1exp.model.adapters`).

    Raises:
        Refused: the path is neither a model, nor a run that made one, nor a hub id; or the model cannot be
            built from its settings; or the settings are those of model=tiny and the model is another one.
    """
    if settings.path is None:
        check_tiny(settings)
        return None
    place = _place_of(settings)
    if settings.kind == "tiny":
        _refuse_other_than_tiny(place, settings.path)
    return place


def _place_of(settings: ModelSettings) -> Path | str:
    assert settings.path is not None
    folder = Path(settings.path).expanduser()
    if not _exists(folder) and _HUB_ID.fullmatch(settings.path):
        return settings.path
    if settings.revision is not None:
        raise Refused(
            f"model.revision={settings.revision} chooses a version on the hub, and model.path={settings.path} "
            "is not a hub id; drop model.revision"
        )
    return _model_in(folder, settings.path)


def locate_critic(path: str) -> Path | str:
    """Return the folder of a critic or a reward model, or the hub id.

    A folder with a config.json is returned as it is. Of the directory of a step it is the critic that the step trained, or
    the reward model; of the directory of a run, that of the last such step that is done.

    Raises:
        Refused: the run or step has neither.
    """
    folder = Path(path).expanduser()
    if not _exists(folder) or (folder / "config.json").is_file():
        return path
    if RunPaths(folder).manifest.is_file():
        steps = list(reversed(RunPaths(folder).all_steps()))
    elif StepPaths(folder).step.is_file():
        steps = [StepPaths(folder)]
    else:
        return path  # `check_model` states what is wrong with it
    for step in steps:
        kind = _kind_of_artifact(step, "algorithm.critic.path", path)
        if kind == "reward_model":
            return step.artifact
        if kind == "model" and ArtifactPaths(step.artifact).critic.is_dir():
            return ArtifactPaths(step.artifact).critic
    raise Refused(
        f"algorithm.critic.path={path}: no step there has finished with a critic or a reward model; give a run with "
        "algorithm=ppo (and a critic other than zero) or stage=reward_model, or steps/*/artifact for a policy"
    )


def check_model(key: str, path: str) -> None:
    """Check that a model other than the policy can be read.

    Args:
        key: The setting that names the model, for messages; for example `algorithm.critic.path`.
        path: Its value: a folder or a hub id.

    Raises:
        Refused: there is no such folder, it holds no model or one that needs code of its own, or `check_hub` refuses the
            hub id.
    """
    if Path(path).is_dir():
        if not (Path(path) / "config.json").is_file():
            raise Refused(
                f"{key}={path}: the folder holds no model (config.json); to use a run, give its steps/*/artifact"
            )
        refuse_code(Path(path), None, is_trusted=False, key=key)
    elif not _HUB_ID.fullmatch(path):
        raise Refused(
            f"{key}={path}: there is no such folder, and a hub id looks like owner/name; give one of the two"
        )
    else:
        check_hub(path, None, key)
        refuse_code(path, None, is_trusted=False, key=key)


def check_hub(path: str, revision: str | None, key: str = "model.path") -> None:
    """Check that a hub id is in the cache or can be downloaded.

    Args:
        path: A hub id; a folder passes without a check.
        revision: Branch, tag or commit; None: the main branch.
        key: The setting that names the model, for messages.

    Raises:
        Refused: there is no such model or revision, no access to it, or no network.
    """
    if Path(path).exists() or not _HUB_ID.fullmatch(path):
        return
    import httpx  # the HTTP client of huggingface_hub
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    if isinstance(try_to_load_from_cache(path, "config.json", revision=revision), str):
        return
    what = path if revision is None else f"{path} at revision {revision}"
    elsewhere = f"copy it to a folder of this machine and give that as {key}"
    if key == "model.path":
        elsewhere += ", or use model=tiny, which is built on this machine"
    if constants.is_offline_mode():
        raise Refused(
            f"{key}={what} is not in the cache, and HF_HUB_OFFLINE forbids downloading it; {elsewhere}"
        )
    try:
        HfApi().model_info(path, revision=revision, timeout=_HUB_TIMEOUT)
    except GatedRepoError as error:
        raise Refused(
            f"{key}={what} is gated: accept its licence on https://huggingface.co/{path}, "
            "then type `hf auth login`"
        ) from error
    except HfHubHTTPError as error:
        raise Refused(
            f"{key}={what}: the hub has no such model, or you have no access to it ({_first_line(error)}); check the "
            "name, and type `hf auth login` if it is private"
        ) from error
    except httpx.HTTPError as error:
        raise Refused(
            f"{key}={what} is not in the cache, and the hub cannot be reached ({_first_line(error)}); {elsewhere}"
        ) from error


def _exists(folder: Path) -> bool:
    try:
        return folder.exists()
    except OSError:  # for example a name that is too long
        return False


def _refuse_other_than_tiny(place: Path | str, typed: str) -> None:
    """Raise Refused if the model is not one that model=tiny built, or that was trained from one.

    It is recognized by its tokenizer: the sizes of a tiny model are settings.
    """
    if isinstance(place, Path) and is_adapter_folder(place):
        place, _ = base_of(place)
    if isinstance(place, Path):
        file = place / "tokenizer_config.json"
        tokens = read_object(file, f"model.path={typed}") if file.is_file() else {}
        if (tokens.get("pad_token"), tokens.get("eos_token")) == (PAD, END):
            return
    raise Refused(
        f"model.path={typed} is not a tiny model, and model=tiny (the default) has learning rates, batches and a "
        f"precision for half a million weights; type model=hf model.path={typed}, or another model group"
    )


def _model_in(folder: Path, typed: str) -> Path:
    """Return the folder of the model itself."""
    if not _exists(folder):
        raise Refused(
            f"model.path={typed}: there is no such folder, and a hub id looks like owner/name; "
            "give a folder with config.json, the directory of a run, or a hub id"
        )
    if (folder / "config.json").is_file():
        _check_files(folder, typed)
        return folder
    if RunPaths(folder).manifest.is_file():
        return _model_of_run(folder)
    if StepPaths(folder).step.is_file():
        return _model_of_step(folder)
    if is_adapter_folder(folder):
        base_of(folder)
        return folder
    raise Refused(
        f"model.path={typed}: the folder holds neither a model (config.json), nor adapters (adapter_config.json), "
        "nor a run (manifest.json), nor a step (step.json); give one that does"
    )


def _check_files(folder: Path, typed: str) -> None:
    """Raise Refused if a folder with a config.json is not a whole model."""
    config = read_object(folder / "config.json", f"model.path={typed}")
    if not isinstance(config.get("model_type"), str):
        raise Refused(
            f"model.path={typed}: its config.json names no model_type, so that no library can load it; copy the model "
            "again"
        )
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise Refused(
            f"model.path={typed}: the folder has a config.json and no weights (*.safetensors or *.bin); copy the model "
            "again"
        )


def _model_of_run(run: Path) -> Path:
    for step in reversed(RunPaths(run).all_steps()):
        if _has_model(step):
            return step.artifact
    raise Refused(
        f"model.path={run}: no step of that run has finished with a model; see {RunPaths(run).summary}"
    )


def _model_of_step(step: Path) -> Path:
    paths = StepPaths(step)
    if _has_model(paths):
        return paths.artifact
    raise Refused(f"model.path={step}: that step has not finished with a model; see {paths.status}")


def _has_model(step: StepPaths) -> bool:
    return _kind_of_artifact(step, "model.path", str(step.folder)) == "model"


def _kind_of_artifact(step: StepPaths, key: str, path: str) -> str | None:
    """Return the kind of the artifact of a step that is done, else None."""
    if not step.status.is_file():
        return None
    content = read_object(step.status, f"{key}={path}")
    return (content.get("artifact") or {}).get("kind") if content.get("state") == "done" else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
