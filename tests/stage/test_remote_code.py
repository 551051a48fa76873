"""A model with code of its own through real steps: SFT, the evaluation of its artifact, and a run that starts from that."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.files import hash_of_folder
from r1exp.model.tiny import build_tiny
from tests.model.code_model import CODE, code_model

COMMON = [
    "model=hf", "model.compute_dtype=float32", "model.gradient_checkpointing=false", "debug=fast",
    "debug.num_problems=4", "debug.max_completion_length=8", "evaluation.before=false", "tracking=none",
    "launcher=local", "max_steps=2",
]  # fmt: skip
TRUSTED = "model.trust_remote_code=true"


def r1exp(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "r1exp", *COMMON, *overrides], cwd=folder, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
        env=os.environ
        | {"TOY_RAN": str(folder / "ran"), "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


def toy_in(folder: Path) -> Path:
    with session():
        settings = experiment_from(["stage=sft"]).steps[0].config.model
    return code_model(build_tiny(settings, folder / "tiny"), folder / "toy")


@pytest.mark.slow
def test_a_model_with_code_is_trained_and_its_artifact_brings_the_code(tmp_path: Path) -> None:
    toy = toy_in(tmp_path)
    refused = r1exp(tmp_path, "stage=sft", f"model.path={toy}", "paths.run=refused")
    assert refused.returncode == 2 and "type model.trust_remote_code=true" in refused.stderr
    assert not (tmp_path / "ran").exists() and not (tmp_path / "refused").exists()

    done = r1exp(tmp_path, "stage=sft", f"model.path={toy}", "paths.run=run", TRUSTED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "ran").read_text().count("modeling") >= 2  # SFT and its evaluation
    artifact = tmp_path / "run" / "steps" / "01-sft" / "artifact"
    assert {name: (artifact / name).read_text() for name in CODE} == CODE
    assert json.loads((artifact / "config.json").read_text())["model_type"] == "toy"
    status = json.loads((artifact.parent / "status.json").read_text())
    assert status["artifact"]["hash"] == hash_of_folder(artifact)  # of the code as well
    assert "post_sft_accuracy" in (tmp_path / "run" / "summary.json").read_text()
    assert not (tmp_path / "home" / "modules").exists()  # of all users and steps; each process has its own


@pytest.mark.slow
def test_a_pinned_commit_pins_the_code_of_the_reference_and_the_critic_too(tmp_path: Path) -> None:
    repository = tmp_path / "home" / "hub" / "models--someone--toy"
    toy = toy_in(tmp_path)
    for revision, commit in (("main", "1" * 40), ("v2", "2" * 40)):
        shutil.copytree(toy, repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commit)
    for name in ("modeling_toy.py", "configuration_toy.py"):
        (repository / "snapshots" / ("1" * 40) / name).write_text(
            "raise RuntimeError('the code of main ran')"
        )
    run = ["model.path=someone/toy", "model.revision=v2", TRUSTED, "paths.run=run", "evaluation.after=false"]
    done = r1exp(tmp_path, "stage=rl", "algorithm=ppo", "beta=0.1", *run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: (tmp_path / "run/steps/01-ppo/artifact" / name).read_text() for name in CODE} == CODE
