"""Finds the Python code that comes with a model, and refuses it where `model.trust_remote_code` is false. Torch-free.

A model that transformers has no class for brings its own (`modeling_*.py`), which its JSON files name as `auto_map`. Loading
it runs that code with the rights of the user. r1exp therefore never leaves the choice to transformers, which asks on a
terminal: it states `trust_remote_code` in every call, and refuses such a model in a sentence before it loads anything.

Code of a second repository (`owner/name--module.Class` in an `auto_map`) is never run: transformers takes it from that
repository's main branch, so that no revision of the model pins it.
"""

import ast
import shutil
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from r1exp.errors import Refused
from r1exp.files import read_object, write_json
from r1exp.hub import is_commit
from r1exp.model.adapters import base_of, is_adapter_folder
from r1exp.model.settings import ModelSettings

KEY = "model.trust_remote_code"
FILES = ("config.json", "tokenizer_config.json")  # those that may name code
_GENERATE = "custom_generate/generate.py"  # replaces `generate` of a trusted model, without an entry anywhere
# Where transformers 5.17 lists the configurations that it has classes for; read as text, because importing it imports torch.
_LISTS = ("auto_mappings.py", "configuration_auto.py")


def refuse_code(
    place: Path | str, revision: str | None, *, is_trusted: bool, key: str = "model.path"
) -> None:
    """Raise Refused if a model needs code of its own that must not run; a model that is not on this machine passes.

    A model that transformers has a class for passes too: without trust that class is loaded, and the model's code is not run.

    Args:
        place: A folder, or a hub id, which is looked up in the cache.
        revision: Revision of a hub id; None: its main branch.
        is_trusted: Whether its code may run.
        key: The setting that names the model, for messages.
    """
    named = references(place, revision)
    if is_trusted:
        foreign = [reference for reference in named if "--" in reference]
        if foreign:
            repository = foreign[0].partition("--")[0]
            raise Refused(
                f"{key}={place}: it takes code from another repository ({foreign[0]}), which no revision of the model pins, "
                f"and r1exp does not run it; copy the model and that code to a folder, and remove {repository}-- from the "
                "auto_map there"
            )
        return
    config = _content(place, "config.json", revision)
    known = known_types()
    if "AutoConfig" in _auto_map(config) and known and config.get("model_type") not in known:
        raise Refused(needs_code(str(place), key, config.get("model_type")))


def needs_code(path: str, key: str = "model.path", model_type: str | None = None) -> str:
    """Return why a model that needs code of its own is refused, and what to type."""
    kind = "" if model_type is None else f" (model_type {model_type!r})"
    if key != "model.path":
        return (
            f"{key}={path} can only be loaded with the Python code of its own repository{kind}; r1exp runs such code for the "
            "policy alone: choose a model that transformers has a class for"
        )
    return (
        f"{key}={path} can only be loaded with the Python code of its own repository{kind}, which would run on this machine "
        f"with your rights, and {KEY} is false; read that code, and type {KEY}=true if you trust it"
    )


def references(place: Path | str, revision: str | None) -> list[str]:
    """Return the classes that the files of a model name, for example `modeling_x.XForCausalLM`; without repetitions."""
    found = []
    for name in FILES:
        for value in _auto_map(_content(place, name, revision)).values():
            found += [each for each in (value if isinstance(value, list) else [value]) if each]
    if _file(place, _GENERATE, revision) is not None:
        found.append(_GENERATE)
    return list(dict.fromkeys(found))


def check_code(settings: ModelSettings, place: Path | str | None) -> None:
    """Raise Refused if the policy at `place`, or the base of its adapters, needs code that must not run."""
    if place is not None:
        refuse_code(*_with_base(settings, place), is_trusted=settings.trust_remote_code)


def refuse_other_code(key: str, settings: ModelSettings, place: Path | str | None) -> None:
    """Raise Refused if a model made from the one at `place` needs code of its own; `key` names it, and it is not the policy."""
    if place is not None:
        refuse_code(*_with_base(settings, place), is_trusted=False, key=key)


def about_code(settings: ModelSettings, place: Path | str, typed: str | None) -> str:
    """Return what `plan` says about the code of a trusted model.

    Args:
        settings: The policy, with the commit as its revision where one is known.
        place: A folder or a hub id.
        typed: The revision that the user gave, which may be a branch.
    """
    place, revision = _with_base(settings, place)
    if _file(place, "config.json", revision) is not None and not references(place, revision):
        return f"{KEY}=true has no effect: {place} has no code of its own"
    what = f"{KEY}=true: Python code of {place} runs with your rights"
    if isinstance(place, Path):
        return f"{what}, as it is in that folder now"
    if not is_commit(revision):
        return f"{what}, and it can change: give model.revision=COMMIT"
    return f"{what}, at commit {revision}" + (
        "" if is_commit(typed) else f"; it can change before the next run: give model.revision={revision}"
    )


def copy_code(path: str, revision: str | None, target: Path) -> None:
    """Copy the code of a trusted model into the folder of a model that was made from it, and name it there as the model does.

    transformers copies the modules that it has loaded, and leaves out those that other entries of `auto_map` name, and
    `custom_generate/`.

    Args:
        path: Folder or hub id.
        revision: Revision of a hub id; None: its main branch.
        target: Folder with the saved model and tokenizer.
    """
    if not references(Path(path) if Path(path).is_dir() else path, revision):
        return
    source = Path(path)
    if not source.is_dir():
        source = _downloaded(path, revision)
    for file in sorted(source.rglob("*.py")):
        inner = file.relative_to(source)
        if not any(part.startswith(".") for part in inner.parts):
            (target / inner).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / inner)
    for name in FILES:
        named = _auto_map(_content(source, name, None))
        if named and (target / name).is_file():
            write_json(target / name, {**read_object(target / name, str(target)), "auto_map": named})


def _downloaded(repository: str, revision: str | None) -> Path:
    """Return a folder with the code of a model of the hub; what the cache has of it, where the hub cannot be asked."""
    import httpx  # the HTTP client of huggingface_hub
    from huggingface_hub import snapshot_download  # imported late: takes 0.1 s

    patterns = ["*.py", *FILES]
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except (httpx.HTTPError, OSError):  # among them HF_HUB_OFFLINE
        return Path(
            snapshot_download(repository, revision=revision, allow_patterns=patterns, local_files_only=True)
        )


@cache
def known_types() -> frozenset[str]:
    """Return each `model_type` that transformers has a class for; empty if its sources cannot be read."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return frozenset()
    folder = Path(spec.origin).parent / "models" / "auto"
    return frozenset(name for file in _LISTS for name in _listed(folder / file))


def _listed(file: Path) -> Iterator[str]:
    """Yield the keys of the pairs and mappings in the statements about CONFIG_MAPPING_NAMES of a source file."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef) or not _is_about_configs(statement):
            continue
        for node in ast.walk(statement):
            keys: list[ast.expr | None] = []
            if isinstance(node, ast.Tuple) and len(node.elts) == 2:
                keys = [node.elts[0]]
            elif isinstance(node, ast.Dict):
                keys = list(node.keys)
            yield from (
                key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
            )


def _is_about_configs(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assign):
        target = statement.targets[0]
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        target = statement.value.func
    else:
        return False
    return any(isinstance(node, ast.Name) and node.id == "CONFIG_MAPPING_NAMES" for node in ast.walk(target))


def _with_base(settings: ModelSettings, place: Path | str) -> tuple[Path | str, str | None]:
    if isinstance(place, Path) and is_adapter_folder(place):
        return base_of(place)
    return place, settings.revision


def _auto_map(content: dict[str, Any]) -> dict[str, Any]:
    """Return the `auto_map` of a JSON file; older tokenizers list their classes without the key `AutoTokenizer`."""
    named = content.get("auto_map")
    if isinstance(named, list):
        return {"AutoTokenizer": named}
    return named if isinstance(named, dict) else {}


def _content(place: Path | str, name: str, revision: str | None) -> dict[str, Any]:
    file = _file(place, name, revision)
    try:
        return {} if file is None else read_object(file, f"model.path={place}")
    except Refused:  # half a file: the loader, or `locate` before it, says so
        return {}


def _file(place: Path | str, name: str, revision: str | None) -> Path | None:
    """Return a file of a folder, or of a model of the hub that is in the cache."""
    if isinstance(place, Path):
        return place / name if (place / name).is_file() else None
    from huggingface_hub import try_to_load_from_cache  # imported late: takes 0.1 s

    try:
        cached = try_to_load_from_cache(place, name, revision=revision)
    except ValueError:  # no hub id: the loader itself says so
        return None
    return Path(cached) if isinstance(cached, str) else None
