"""What does each algorithm cost? Completions a second through r1exp as a ratio to bare TRL GRPO.

    python benchmarks/algorithms.py [--turns 12] [--only ppo,dpo]

The same model (tiny, after some SFT, so that completions end by themselves), prompts, lengths and
rewards. Each algorithm keeps its own recipe: how often it updates on a generation, what it keeps as a
reference. A turn is one generation, 256 or 512 completions that are sampled, judged and learnt from, or
256 preference pairs for DPO. The learning rate is almost 0, so that lengths stay what they are.

Two processes of one thread each, of which one computes: bare TRL and an algorithm take turns, and a
ratio is made of two neighbouring turns. Its median is shown with a bootstrap interval over the turns.
Ratios are those of processor time, which other users of the machine disturb less; the ratio of wall
times stands beside. Exit code 1 if PPO with a critic of the policy's size has less than half of bare
TRL's completions a second.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from turns import Cost, Runner, bare, bare_job, freeze, ratio, through_r1exp, turns

REQUIRED = 0.5
FAMILY = ("grpo", "dr_grpo", "dapo", "gspo", "rloo")
ROWS: dict[str, list[str]] = {
    **{name: [f"algorithm={name}"] for name in FAMILY},
    "ppo separate": ["algorithm=ppo"],
    "ppo shared": ["algorithm=ppo", "algorithm.critic.kind=shared", "algorithm.value_coefficient=0.1"],
    "ppo zero": ["algorithm=ppo", "algorithm.critic.kind=zero"],
    "dpo": ["algorithm=dpo", "dataset=preference", "dataset.path=pairs.jsonl"],
}
COMMON = [
    "stage=rl", "model.path=policy", "evaluation.before=false", "evaluation.after=false", "tracking=none", "learning_rate=1e-7",
    "launcher.threads_per_process=1", "trainer.save_strategy=no", "max_steps=100000",
]  # fmt: skip
REWARDS = ["rewards=strict", "~rewards.format"]  # what bare_rewards.strict pays


def policy(folder: Path, num_steps: int) -> None:
    """Train a policy whose completions end, and write preference pairs for it."""
    words = ["stage=sft", f"max_steps={num_steps}", "tracking=none", "evaluation.before=false",
             "evaluation.after=false", "paths.run=sft", "launcher.threads_per_process=1"]  # fmt: skip
    subprocess.run([sys.executable, "-m", "r1exp", *words], cwd=folder, check=True, capture_output=True)
    (folder / "policy").symlink_to(folder / "sft" / "steps" / "01-sft" / "artifact")


def pairs(folder: Path, step: Any) -> None:
    """Write a pair for each problem: the worked solution, and the same with another answer."""
    with (folder / "pairs.jsonl").open("w") as file:
        for problem in step.config.dataset.load("train"):
            chosen = f"{problem.columns['solution']} <answer>{problem.answer}</answer>"
            rejected = f"{problem.columns['solution']} <answer>{int(problem.answer) + 1}</answer>"
            file.write(json.dumps({"prompt": problem.prompt, "chosen": chosen, "rejected": rejected}) + "\n")


def measure(name: str, folder: Path, reference: Runner, num_turns: int) -> tuple[int, list[dict[str, Cost]]]:
    """Return the rows of a turn, and what turns of bare TRL GRPO and of one algorithm took."""
    place = folder / name.replace(" ", "-")
    step = freeze([*COMMON, *([] if name == "dpo" else REWARDS), *ROWS[name]], place)
    rows, num_steps = turn_of(step.trainer_args)
    ours = Runner(through_r1exp, (str(place),), num_steps, place / "log.txt")
    try:
        return rows, turns({"bare": reference, "ours": ours}, num_turns)
    finally:
        ours.close()


def turn_of(arguments: dict[str, Any]) -> tuple[int, int]:
    """Return the rows and the optimiser steps of one turn: a whole generation, or 256 pairs."""
    accumulation = arguments["gradient_accumulation_steps"]
    if "steps_per_generation" not in arguments:
        rows = arguments["per_device_train_batch_size"] * accumulation
        return 256, 256 // rows
    passes = arguments["steps_per_generation"]
    return arguments["per_device_train_batch_size"] * passes, passes // accumulation


def line(name: str, rows: int, bare_rows: int, rounds: list[dict[str, Cost]]) -> tuple[str, float]:
    """Return the table's line and the ratio."""
    share = rows / bare_rows
    value, low, high = ratio([share * costs["bare"].processor / costs["ours"].processor for costs in rounds])
    wall = statistics.median(share * costs["bare"].wall / costs["ours"].wall for costs in rounds)
    ours = rows / statistics.median(costs["ours"].processor for costs in rounds)
    theirs = bare_rows / statistics.median(costs["bare"].processor for costs in rounds)
    unit = "pairs" if name == "dpo" else "completions"
    figures = f"{ours:.0f} {unit} | {theirs:.0f} | {value:.2f} | {low:.2f} to {high:.2f} | {wall:.2f} | {len(rounds)}"
    return f"| {name} | {figures} |", value


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=12, help="measured turns of each algorithm")
    parser.add_argument("--only", default=",".join(ROWS), help="lines of the table")
    parser.add_argument("--sft-steps", type=int, default=150)
    given = parser.parse_args()
    names = [name.replace("-", " ") if name.startswith("ppo") else name for name in given.only.split(",")]
    ratios = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.chdir(folder)
        policy(folder, given.sft_steps)
        step = freeze([*COMMON, *REWARDS, "algorithm=grpo"], folder / "reference")
        pairs(folder, step)
        bare_rows, num_steps = turn_of(step.trainer_args)
        job = bare_job(step, folder, "strict")
        reference = Runner(bare, (str(job),), num_steps, folder / "bare.txt")
        print(
            "| algorithm | a second | bare TRL GRPO | ratio | 95 % interval | ratio of wall times | turns |"
        )
        print("|---|---|---|---|---|---|---|", flush=True)
        for name in names:
            rows, rounds = measure(name, folder, reference, given.turns)
            text, ratios[name] = line(name, rows, bare_rows, rounds)
            print(text, flush=True)
        reference.close()
    return 0 if ratios.get("ppo separate", math.inf) >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())
