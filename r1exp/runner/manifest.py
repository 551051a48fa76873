"""What a run was made of: settings, code, versions, hardware. No secrets: the environment is not read."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from r1exp import __version__
from r1exp.config.assets import ROOT
from r1exp.config.experiment import Experiment
from r1exp.plan.steps import PlannedStep

PACKAGES = (
    "torch", "transformers", "trl", "accelerate", "deepspeed", "peft", "datasets", "tokenizers", "vllm",
    "hydra-core", "omegaconf", "pydantic", "wandb", "math-verify",
)  # fmt: skip


def manifest(experiment: Experiment, steps: tuple[PlannedStep, ...], run_id: str) -> dict[str, Any]:
    """Return the content of manifest.json."""
    return {
        "run_id": run_id,
        "name": experiment.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "overrides": list(experiment.words),
        "choices": experiment.composition.choices,
        "config": experiment.top.model_dump(mode="json"),
        "focus": experiment.focus,
        "steps": {step.name: step.config.model_dump(mode="json") for step in steps},
        "step_keys": [step.key for step in steps],
        "data": {step.name: step.data for step in steps},
        "seed": experiment.top.seed,
        "versions": versions(),
        "git": _git(),
        "hardware": {
            "machine": platform.machine(),
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "device": steps[0].device,
        },
    }


def versions() -> dict[str, str | None]:
    """Return package -> installed version, None where it is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "r1exp": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _git() -> dict[str, str] | None:
    """Return commit and uncommitted changes of the checkout this runs from; None outside one."""
    if not (ROOT / ".git").exists():
        return None

    def ask(*words: str) -> str:
        answer = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else ""

    return {"commit": ask("rev-parse", "HEAD"), "diff": ask("diff", "HEAD")}
