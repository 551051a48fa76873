"""Every option of `rewards=` trains: two optimizer steps of TRL's GRPO on the tiny model."""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from r1exp.model.settings import ModelSettings
from r1exp.model.tiny import build_tiny
from r1exp.records import Problem
from r1exp.rewards.adapter import reward_funcs
from r1exp.rewards.base import Reward
from r1exp.rewards.committee import Committee
from r1exp.sandbox.local import Local

CONF = Path(__file__).parents[2] / "conf"
# Tested elsewhere: two need replies of their own from an endpoint, one an optional library, the others the data that they are
# for (test_committees_on_data.py, tests/runner/test_pipelines.py).
OTHERS = {"group_judge", "rubric", "reasoning_gym"}
OTHERS |= {
    "code_codeforces",
    "code_ioi",
    "helpful_harmless",
    "all_scenarios",
    "reasoning",
    "reasoning_any_language",
}
TOOL = '[{"name": "add", "parameters": {"type": "dict", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}]'
COLUMNS: dict[str, dict[str, object]] = {  # that committees read beside the question and the answer
    "choice": {"choices": ["Rome", "Paris", "Oslo"]},
    "function_call": {"function": TOOL, "ground_truth": '[{"add": {"a": [3]}}]'},
    "instructions": {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    "json_schema": {"schema": '{"required": ["age"], "type": "object"}'},
    "l1": {"target_length": 8},
    "countdown": {"numbers": [3, 4], "target": 7},
}
OPTIONS = sorted({path.stem for path in (CONF / "rewards").glob("*.yaml")} - OTHERS)
PROBLEMS = [
    Problem(
        id=f"sum {number}",
        prompt=f"Ada buys {number} apples and 4 apples . How many apples is that in total?",
        answer=str(number + 4),
        columns={"test_cases": [{"input": "", "output": str(number + 4)}]},
    )
    for number in range(8)
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = OmegaConf.to_container(OmegaConf.load(CONF / "model" / "tiny.yaml"))
    settings = ModelSettings.model_validate_json(json.dumps(values))
    return build_tiny(settings, tmp_path_factory.mktemp("two_steps") / "model")


@pytest.fixture(scope="module")
def reward_model(tiny: Path) -> str:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tiny.parent / "reward_model"
    AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    return str(folder)


def problems_for(option: str) -> list[Problem]:
    """Return the sums with the columns that a committee reads."""
    columns = COLUMNS.get(option, {})
    return [
        replace(
            problem,
            answer="B" if option == "choice" else problem.answer,
            columns={**problem.columns, **columns},
        )
        for problem in PROBLEMS
    ]


def trained(
    committee: Committee, problems: Sequence[Problem], tiny: Path, output: Path
) -> list[dict[str, float]]:
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    from r1exp.prompt.chat import CHAT_TEMPLATE

    torch.set_num_threads(1)  # several threads are slower on a busy machine
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = tokenizer.chat_template or CHAT_TEMPLATE
    rows = [problem.to_row([{"role": "user", "content": problem.prompt}]) for problem in problems]
    arguments = GRPOConfig(
        str(output), max_steps=2, num_generations=4, per_device_train_batch_size=8, max_completion_length=16,
        reward_weights=committee.weights, use_cpu=True, bf16=False, report_to=[], logging_steps=1, seed=1,
        save_strategy="no", disable_tqdm=True, gradient_checkpointing=False,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny),
        processing_class=tokenizer,
        reward_funcs=reward_funcs(committee),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
    )
    trainer.train()
    committee.close()
    return trainer.state.log_history


@pytest.mark.parametrize("option", OPTIONS)
def test_it_trains_two_steps(
    option: str,
    tiny: Path,
    reward_model: str,
    tmp_path: Path,
    endpoint: Any,
    composed: Callable[..., dict[str, Reward]],
) -> None:
    from r1exp.model.scorer import open_reward_model

    if option == "code" and Local().check() is not None:
        pytest.skip("no sandbox on this machine")
    given = {
        "reward_model": {"preference.model": reward_model, "preference.max_length": 64},
        "judge": {"helpful.model": "m", "helpful.endpoint": endpoint.url},
    }
    rewards = composed(CONF / "rewards" / f"{option}.yaml", **given.get(option, {}))
    committee = Committee(rewards, openers={"reward_model": open_reward_model})
    history = trained(committee, problems_for(option), tiny, tmp_path)
    steps = [entry for entry in history if "loss" in entry]
    assert len(steps) == 2
    for name in rewards:
        assert all(math.isfinite(step[f"rewards/{name}/mean"]) for step in steps), name
        assert all(step[f"rewards/{name}/abstained"] == 0.0 for step in steps), name
        assert all(step[f"rewards/{name}/seconds"] >= 0.0 for step in steps), name
