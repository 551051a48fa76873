"""Collects the content of manifest.json: settings, code, versions, hardware. It reads no environment variables."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from r1exp import __version__
from r1exp.assets import ROOT
from r1exp.config.experiment import Experiment
from r1exp.files import hash_of
from r1exp.launcher.base import Device
from r1exp.plan.steps import PlannedStep

PACKAGES = (
    "torch", "transformers", "trl", "accelerate", "deepspeed", "peft", "datasets", "tokenizers", "vllm",
    "hydra-core", "omegaconf", "pydantic", "wandb", "math-verify",
)  # fmt: skip
_NUM_LISTED = 3  # differing versions that a refusal lists


def manifest(experiment: Experiment, steps: tuple[PlannedStep, ...], run_id: str) -> dict[str, Any]:
    """Return the content of manifest.json."""
    return {
        "run_id": run_id,
        "name": experiment.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "overrides": list(experiment.arguments),
        "choices": _choices(experiment),
        "config": experiment.run.model_dump(mode="json"),
        "focus": experiment.focus,
        "steps": {step.name: step.config.model_dump(mode="json") for step in steps},
        "step_keys": [step.key for step in steps],
        "data": {step.name: step.data for step in steps},
        "seed": experiment.run.seed,
        "versions": versions(),
        "git": revision(),
        "hardware": hardware(steps[0].device),
    }


def hardware(device: Device) -> dict[str, Any]:
    """Return what the results of this machine may depend on."""
    return {
        "machine": platform.machine(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "device": device,
    }


def why_not_continued(folder: Path, theirs: dict[str, Any], experiment: Experiment) -> str:
    """Return why a run directory whose steps have other keys than the planned ones is not continued, and what to type.

    Args:
        folder: The run directory.
        theirs: Its manifest.
        experiment: What was typed.
    """
    if sorted(theirs.get("overrides", [])) != sorted(experiment.arguments):
        return (
            f"{folder} contains another experiment than the one typed; "
            "give another paths.run, or type the overrides in its manifest.json"
        )
    found, ours = (_of_versions(each) for each in (theirs, {"versions": versions(), "git": revision()}))
    differing = [
        f"{name} {found.get(name)} there and {here} here"
        for name, here in ours.items()
        if found.get(name) != here
    ]
    if not differing:
        return (
            f"{folder} was begun by the same command with other data, another model or other code of your own, and its steps "
            "are not mixed with others; give another paths.run"
        )
    more = len(differing) - _NUM_LISTED
    listed = ", ".join(differing[:_NUM_LISTED]) + (f", and {more} more" if more > 0 else "")
    return (
        f"{folder} was begun by another version ({listed}), which computes its steps otherwise, and steps of two versions are not "
        "mixed; finish it with that version, or begin again with another paths.run"
    )


def _of_versions(manifest: dict[str, Any]) -> dict[str, str | None]:
    """Return package -> version, for r1exp in a checkout with its commit and whether that was changed."""
    found: dict[str, str | None] = dict(manifest.get("versions", {}))
    git = manifest.get("git")
    if git:
        changed = f" with changes {hash_of(git['diff'])}" if git.get("diff") else ""
        found["r1exp"] = f"{found.get('r1exp')} of commit {git['commit'][:7]}{changed}"
    return found


def texts_in(manifest: dict[str, Any], key: str) -> tuple[str, ...]:
    """Return the list of texts under a key of a manifest; empty where another program wrote the file."""
    found = manifest.get(key)
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _choices(experiment: Experiment) -> dict[str, str | None]:
    """Return config group -> chosen option, without Hydra's own groups."""
    choices = experiment.composition.choices
    return {group: option for group, option in choices.items() if not group.startswith("hydra/")}


def versions() -> dict[str, str | None]:
    """Return package -> installed version, or None if it is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "r1exp": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def revision() -> dict[str, str] | None:
    """Return the commit and uncommitted changes of the checkout of r1exp; None outside a checkout."""
    if not (ROOT / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        answer = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
        )
        return answer.stdout.strip() if answer.returncode == 0 else ""

    return {"commit": git("rev-parse", "HEAD"), "diff": git("diff", "--binary", "HEAD")}
