"""Runs in verl's own environment: composes verl's configuration from an export, and scores completions with its reward manager.

python verl_side.py OVERRIDES.json COMPLETIONS.json SCORES.json
"""

import asyncio
import json
import sys
from pathlib import Path

import pandas as pd
import torch
import verl
from hydra import compose, initialize_config_dir
from transformers import AutoTokenizer
from verl import DataProto
from verl.trainer.ppo.reward import load_reward_manager
from verl.utils.config import omega_conf_to_dataclass


def main(overrides: Path, completions: Path, target: Path) -> None:
    """Write a mapping of numbers for each completion."""
    folder = Path(verl.__file__).parent / "trainer" / "config"
    with initialize_config_dir(str(folder), version_base=None):
        config = compose("ppo_trainer", overrides=json.loads(overrides.read_text()))
    omega_conf_to_dataclass(config.actor_rollout_ref.actor)  # verl's own checks
    omega_conf_to_dataclass(config.algorithm)
    tokenizer = AutoTokenizer.from_pretrained(config.actor_rollout_ref.model.path)
    rows = pd.read_parquet(config.data.train_files).to_dict("records")
    texts = json.loads(completions.read_text())

    async def scored() -> list[dict[str, float]]:
        manager = load_reward_manager(config, tokenizer)
        found = []
        for number, text in texts:
            row = rows[number]
            prompt = tokenizer.apply_chat_template(
                list(row["prompt"]), add_generation_prompt=True, return_dict=False
            )
            answer = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
            data = DataProto.from_dict(
                tensors={
                    "prompts": torch.tensor([prompt]),
                    "responses": torch.tensor([answer]),
                    "attention_mask": torch.ones(1, len(prompt) + len(answer), dtype=torch.long),
                },
                non_tensors={key: [row[key]] for key in ("data_source", "reward_model", "extra_info")},
            )
            result = await manager.run_single(data)
            found.append({"total": result["reward_score"], **result["reward_extra_info"]})
        return found

    target.write_text(json.dumps(asyncio.run(scored())))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
