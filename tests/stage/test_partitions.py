"""Tests of ZeRO-3 with two ranks on a CPU in bfloat16: which models are partitioned when they are loaded, and which are not."""

import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.files import write_text
from r1exp.model.scorer import open_reward_model
from r1exp.model.settings import ModelSettings
from r1exp.model.tiny import build_tiny
from r1exp.plan.steps import planned_steps
from r1exp.records import Completion, Problem
from r1exp.rewards.base import Context
from r1exp.rewards.reward_model import RewardModel
from r1exp.stage.step import Step

SCRIPT = Path(__file__).with_name("partitions_script.py")
ANSWERS = ["<answer>7</answer>", "7", "", "<answer>8</answer>" * 30]  # those of the script
OVERRIDES = [
    "stage=rl", "algorithm=ppo", "launcher=zero3", "launcher.num_processes=2", "launcher.device=cpu", "beta=0.01",
    "launcher.threads_per_process=1", "tracking=none", "health=off", "evaluation.before=false", "evaluation.after=false",
    "max_steps=1", "max_completion_length=8", "algorithm.prompts_per_step=4", "num_generations=2", "dataset.num_train=12",
    "algorithm.minibatches=1", "model.rows_per_device.rl=8", "model.compute_dtype=bfloat16", "++trainer.logging_steps=1",
    "~rewards.graded", "~rewards.xml_count", "++trainer.save_strategy=no",
]  # fmt: skip


@pytest.fixture
def policy(tmp_path: Path, tiny_settings: ModelSettings) -> Path:
    return build_tiny(tiny_settings, tmp_path / "policy")


@pytest.fixture
def reward_model(policy: Path, tmp_path: Path) -> str:
    torch.manual_seed(1)
    folder = tmp_path / "reward_model"
    AutoModelForSequenceClassification.from_pretrained(policy, num_labels=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(policy).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def tiny_settings() -> ModelSettings:
    with session():
        return experiment_from(["stage=sft"]).steps[0].config.model


@pytest.mark.slow
@pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs deepspeed: pip install 'r1exp[deepspeed]'")
def test_what_is_trained_is_partitioned_on_load_and_a_reward_model_is_whole(
    policy: Path, reward_model: str, tmp_path: Path
) -> None:
    folder = tmp_path / "step"
    liked = f"+rewards.liked={{kind: reward_model, model: {reward_model}, normalization: none}}"
    with session():
        (planned,) = planned_steps(experiment_from([*OVERRIDES, liked]))
    step = Step(
        name=planned.name, index=1, run_id="run", run_name="run", key=planned.key, data=planned.data, config=planned.config,
        device="cpu", world_size=2, trainer_args=planned.trainer_args, model_path=str(policy),
    )  # fmt: skip
    step.write(folder)
    launch = planned.config.launcher.launch(folder)
    for file, text in launch.files.items():
        write_text(folder / file, text)
    arguments = [*launch.arguments[:-3], str(SCRIPT), str(folder)]
    done = subprocess.run(
        arguments, env={**os.environ, **launch.environment}, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    for found in ranks:
        for model in ("policy", "reference", "backbone"):
            assert found[model]["dtypes"] == ["torch.bfloat16"], model
        assert found["backbone"]["share"] == found["reference"]["share"] == 1.0
        assert found["policy"]["share"] > 0.8  # all but the head of the critic
    scorer = open_reward_model(RewardModel(model=reward_model, normalization="none"))
    problems = [Problem("a", "What is 3 + 4?")] * len(ANSWERS)
    alone = scorer.score(problems, [Completion(text, 3) for text in ANSWERS], Context())
    assert ranks[0]["scores"] == ranks[1]["scores"] == pytest.approx(alone, abs=1e-6)
