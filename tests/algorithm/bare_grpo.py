"""A GRPO script without r1exp, with which the parity test and benchmarks/overhead.py compare.

    python bare_grpo.py job.json

job.json: {model, arguments, reward, rows: [{prompt, answer}], output}. Writes TRL's own step times as JSON to standard output.
"""

import json
import sys

import bare_rewards  # type: ignore[import-not-found]  # in the same folder
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import import_utils

# TRL imports vLLM if it is installed, which takes seconds.
import_utils.is_vllm_available = lambda *_, **__: False
from trl import GRPOConfig, GRPOTrainer  # noqa: E402


class Times(TrainerCallback):
    """Collects the step times that TRL logs."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:  # type: ignore[no-untyped-def]
        if logs and "step_time" in logs:
            self.seconds.append(logs["step_time"])


def main(path: str) -> None:
    job = json.load(open(path))  # noqa: PTH123, SIM115
    times = Times()
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(job["model"], attn_implementation="sdpa"),
        reward_funcs=[getattr(bare_rewards, job["reward"])],
        args=GRPOConfig(**job["arguments"], output_dir=job["output"]),
        train_dataset=Dataset.from_list(job["rows"]),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        callbacks=[times],
    )
    trainer.train()
    trainer.save_model(job["output"])
    sys.stdout.write(json.dumps(times.seconds) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
