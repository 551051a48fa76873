"""Trains small models of the presets' architectures: one step of SFT and one of GRPO, two optimizer steps each.

    python presets_script.py FOLDER

One process for all, because the imports take longer than the training. Prints a JSON object for each preset.
"""

import json
import sys
from pathlib import Path
from typing import Any

from r1exp.config.compose import search_path_of, session
from r1exp.config.experiment import experiment_from
from r1exp.model.load import load_tokenizer
from r1exp.plan.steps import planned_steps
from r1exp.registry import load
from r1exp.stage.step import Step
from tests.model.chat_templates import GEMMA3, LLAMA3, QWEN3, SMOLLM2
from tests.model.tokenizers_on_disk import tokenizer_folder

PRESETS = {
    "qwen3-0.6b": ("qwen3", QWEN3),
    "llama-3.2-1b": ("llama", LLAMA3),
    "smollm2-135m": ("llama", SMOLLM2),
    "smollm3-3b": ("smollm3", QWEN3),
    "gemma-3-1b": ("gemma3_text", GEMMA3),
}
COMMON = (
    "tracking=none", "launcher.device=cpu", "model.compute_dtype=float32", "max_steps=2", "dataset.num_train=16",
    "trainer.save_steps=2",
)  # fmt: skip
STAGES = {
    "sft": ("stage=sft", "stage.rows_per_step=4"),
    "rl": ("stage=rl", "algorithm.prompts_per_step=2", "num_generations=2", "max_completion_length=6"),
}


def build(folder: Path, kind: str, template: str) -> None:
    """Write a model of 60 thousand random weights in the layout of the hub."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer_folder(folder, template)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=288, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=2048, bos_token_id=256, eos_token_id=257,
        pad_token_id=258,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def train(preset: str, stage: str, model: Path, folder: Path) -> dict[str, Any]:
    """Run a step as a rank does, and return what it left."""
    path, overrides = search_path_of([f"model={preset}", f"model.path={model}", *STAGES[stage], *COMMON])
    with session((), path):
        planned = next(step for step in planned_steps(experiment_from(overrides)) if step.batch is not None)
    step = Step(
        name=stage, index=1, run_id="run", run_name="run", key=planned.key, data=planned.data, config=planned.config,
        device="cpu", world_size=1, trainer_args=planned.trainer_args, model_path=str(model),
    )  # fmt: skip
    step.write(folder)
    assert planned.config.stage is not None
    load(planned.config.stage.work)(step, folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {"rows": len(rows), "attention": planned.config.model.attn_implementation}


def main() -> None:
    root = Path(sys.argv[1])
    for preset, (kind, template) in PRESETS.items():
        model = root / preset / "model"
        build(model, kind, template)
        found = {}
        for stage in STAGES:
            folder = root / preset / stage
            folder.mkdir()
            found[stage] = train(preset, stage, model, folder)
            model = folder / "artifact"
        settings = planned_model(preset, model)
        same = (
            load_tokenizer(str(model), settings).chat_template
            == load_tokenizer(str(root / preset / "model"), settings).chat_template
        )
        sys.stdout.write(json.dumps({"preset": preset, "keeps template": same, **found}) + "\n")


def planned_model(preset: str, model: Path) -> Any:
    """Return the model's settings with its path on this machine."""
    path, overrides = search_path_of(
        [f"model={preset}", f"model.path={model}", "stage=evaluate", "tracking=none"]
    )
    with session((), path):
        return planned_steps(experiment_from(overrides))[0].config.model


if __name__ == "__main__":
    main()
