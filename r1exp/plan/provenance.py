"""Hashes what decides a step's result in addition to its settings: data, models, code, libraries, files. Torch-free.

A finished step may be reused only if it is the step that would have been computed. So its key also has the version of
r1exp (in a checkout, a hash of its sources), the versions of the libraries that compute, the sources of the user's code
that it calls, and the content of the files that its settings name.
"""

import ast
import sysconfig
from collections.abc import Container, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from r1exp import __version__
from r1exp.assets import ROOT
from r1exp.config.overrides import flat
from r1exp.dataset.rows import fingerprint_of_file
from r1exp.errors import Refused
from r1exp.files import hash_of, hash_of_file, hash_of_folder
from r1exp.judgement.judgement import VERSION as JUDGE_VERSION
from r1exp.model.adapters import base_of, is_adapter_folder
from r1exp.model.folder_hash import remembered_hash
from r1exp.model.locate import locate
from r1exp.model.settings import ModelSettings
from r1exp.paths import ARTIFACT
from r1exp.plan.other_models import hashes_of_models
from r1exp.settings import Settings
from r1exp.stage.config import StepConfig

_PACKAGE = Path(__file__).parents[1]
_GENERATION = ("torch", "transformers", "tokenizers")
_TRAINING = ("trl", "accelerate", "datasets")
_JUDGING = ("math-verify", "latex2sympy2_extended", "sympy")
_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib"))


def inputs_of(config: StepConfig, *, from_base: bool, own_data: bool) -> dict[str, str]:
    """Return what a step reads from outside the run: name -> content hash.

    A run computes them again when it starts the step and when the step has ended (`refuse_changed_inputs`).

    Args:
        config: Settings of the step.
        from_base: Whether it starts from the model that the settings name, and not from an earlier step's.
        own_data: Whether it reads the data set that the settings name, and not an earlier step's.
    """
    assert config.stage is not None
    data = {"dataset": config.stage.fingerprint(config)} if own_data else _own_test_file(config)
    own = config.dataset.validation_fingerprint() if config.validates and own_data else None
    data |= {} if own is None else {"the validation split": own}
    model = {"model.path": _base_key(config.model)} if from_base and config.loads_model else {}
    code = {f"the source of {module}": found for module, found in user_code(config).items()}
    return data | model | hashes_of_models(config) | files_in(config) | code


def _own_test_file(config: StepConfig) -> dict[str, str]:
    """Return the hash of the held-out problems of a step that takes its training data from an earlier step."""
    path = getattr(config.dataset, "test_path", None)
    if not path:
        return {}
    place = Path(path).expanduser()
    found = (
        hash_of_folder(place) if place.is_dir() else fingerprint_of_file(place) if place.is_file() else path
    )
    return {"dataset.test_path": found}


def refuse_changed_inputs(config: StepConfig, planned: dict[str, str], *, from_base: bool) -> None:
    """Check that a step's inputs are still what they were when the step was planned.

    Raises:
        Refused: one of them has changed.
    """
    now = inputs_of(config, from_base=from_base, own_data="dataset" in planned)
    changed = [name for name, found in planned.items() if now.get(name) != found]
    if changed:
        raise Refused(
            f"{' and '.join(changed)} changed after the run was planned, so the result would not be the planned step's; "
            "start the run again"
        )


def without(values: dict[str, Any], keys: Container[str], prefix: str = "") -> dict[str, Any]:
    """Return nested `values` without the entries that the dotted `keys` name."""
    return {
        name: without(value, keys, f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in values.items()
        if f"{prefix}{name}" not in keys
    }


def _base_key(model: ModelSettings) -> str:
    """Return an identifier of the weights that a run starts from."""
    place = locate(model)
    if place is None:
        return hash_of(model.built_from)
    if isinstance(place, str):
        return f"{place}@{model.revision or 'main'}"
    if not is_adapter_folder(place):
        return remembered_hash(place)
    base, revision = base_of(place)
    below = f"{base}@{revision or 'main'}" if isinstance(base, str) else remembered_hash(base)
    return hash_of([remembered_hash(place), below])


def versions(config: StepConfig) -> dict[str, str]:
    """Return the version of r1exp and of each library that computes the step's result.

    A local part of a version (`+cpu`) is left out, because where a step runs is no part of what it is.
    """
    assert config.stage is not None
    names: list[str] = []
    found = {"r1exp": _own_version()}
    if config.stage.trains or config.generates:
        names += _GENERATION
    if config.stage.trains:
        names += _TRAINING
        names += ("peft",) if config.model.lora.r else ()
        names += ("deepspeed",) if config.launcher.zero_stage else ()
    if config.model.quantization is not None:
        names.append("bitsandbytes")
    if config.generates and config.rollout.uses_vllm:
        names.append("vllm")
    if config.rewards is not None or config.stage.makes == "scores":
        names += _JUDGING
        found["judge"] = JUDGE_VERSION
    return found | {name: _version(name) for name in names}


def user_code(config: StepConfig) -> dict[str, str]:
    """Return module -> hash of its source and of what it imports from its own package or folder.

    These are the modules of functions and classes that the settings name by import path or that a plugin adds, and are
    not part of r1exp. Of an installed library the version counts instead of the source.
    """
    return {module: _hash_of_source(module) for module in sorted(set(_modules_of(config)))}


def files_in(config: StepConfig) -> dict[str, str]:
    """Return dotted key -> content hash of the files and folders that the step's settings name.

    The data set, the start model and other models have hashes of their own (`r1exp.plan.steps`).
    """
    found = {}
    for key, value in flat(config.deciding_settings()).items():
        if not key.endswith(("path", "file")) or not isinstance(value, str) or value.startswith(ARTIFACT):
            continue
        path = Path(value).expanduser()
        if path.is_file():
            found[key] = hash_of_file(path)
        elif path.is_dir():
            found[key] = remembered_hash(path)
    return found


@cache
def _own_version() -> str:
    """Return the version of r1exp; in a checkout, whose code changes between versions, with a hash of the sources."""
    if _PACKAGE.parent != ROOT:
        return __version__
    sources = sorted(path for path in _PACKAGE.rglob("*.py"))
    return f"{__version__}+{hash_of([[str(path.relative_to(_PACKAGE)), hash_of_file(path)] for path in sources])}"


@cache
def _version(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return "not installed"


def _modules_of(config: StepConfig) -> Iterator[str]:
    assert config.stage is not None
    data_sets = [member for dataset in config.stage.data_sets(config) for member in dataset.members()]
    settings: list[Settings | None] = [config.stage, config.algorithm, *data_sets, config.rollout]
    for member in [*settings, *(config.rewards or {}).values()]:
        if member is None:
            continue
        if not type(member).__module__.startswith("r1exp."):
            yield type(member).__module__
        kind = getattr(member, "kind", "")
        if ":" in kind:
            yield kind.partition(":")[0]


def _hash_of_source(module: str) -> str:
    place = _file_of(module)
    if place is None:
        return "no source"
    if any(place.is_relative_to(folder) for folder in _INSTALLED):
        root = module.partition(".")[0]
        return f"{root} {_version(root)}"
    files = sorted(_reachable(module).items())
    return hash_of([[name, hash_of_file(path)] for name, path in files])


def _reachable(module: str) -> dict[str, Path]:
    """Return module -> file of a module and of those that it imports, directly or not, from its package or folder."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if name in found or path is None or any(path.is_relative_to(folder) for folder in _INSTALLED):
            continue
        found[name] = path
        parent = name.rpartition(".")[0]
        waiting += [parent] if parent else []
        waiting += _imports_of(name, path)
    return found


def _imports_of(module: str, path: Path) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # importing it fails with a message of its own
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*parts, *(node.module.split(".") if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _file_of(module: str) -> Path | None:
    """Return the source file of a module without importing it or a package above it; None if there is none."""
    root, *below = module.split(".")
    try:
        spec = find_spec(root) if root else None
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    folder = Path(spec.origin).resolve()
    if not below:
        return folder
    if not spec.submodule_search_locations:
        return None
    place = folder.parent.joinpath(*below)
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)
