"""Measures the completions per second of each algorithm through r1exp, as a ratio to those of bare TRL GRPO.

    python benchmarks/algorithms.py [--processes 5] [--turns 4] [--only ppo-separate,dpo]

All runs have the same model (tiny, after some SFT, so that completions end by themselves), prompts, lengths and
rewards. Each algorithm has its own recipe, which sets its optimizer steps per generation batch and its reference. A
turn is one generation batch of 256 or 512 completions, which are sampled, scored and trained on; for DPO it is 256
preference pairs. The learning rate is almost 0, so that the lengths do not change.

Bare TRL and an algorithm run in two processes of one thread each, in alternating turns (benchmarks/turns.py), in
several pairs of new processes. A ratio is the geometric mean over the pairs of the median over their turns, with
Student's 95 % interval over the pairs. Ratios are those of processor time, which other load on the machine affects
less; the ratio of wall times is printed too. The exit code is 1 if PPO with a critic of the policy's size has less
than half of bare TRL's completions per second.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from turns import Cost, Runner, bare, bare_job, freeze, over_pairs, pairs, start_through_r1exp

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
    "launcher=local", "trainer.save_strategy=no", "max_steps=100000",
]  # fmt: skip
REWARDS = ["rewards=strict", "~rewards.format"]  # equal to bare_rewards.strict


def policy(folder: Path, num_steps: int) -> None:
    """Train a policy whose completions end by themselves."""
    overrides = ["stage=sft", f"max_steps={num_steps}", "tracking=none", "evaluation.before=false",
             "evaluation.after=false", "paths.run=sft", "launcher=local"]  # fmt: skip
    subprocess.run([sys.executable, "-m", "r1exp", *overrides], cwd=folder, check=True, capture_output=True)
    (folder / "policy").symlink_to(folder / "sft" / "steps" / "01-sft" / "artifact")


def preferences(folder: Path, step: Any) -> None:
    """Write a pair for each problem: the worked solution, and the same with a wrong answer."""
    with (folder / "pairs.jsonl").open("w") as file:
        for problem in step.config.dataset.load("train"):
            chosen = f"{problem.columns['solution']} <answer>{problem.answer}</answer>"
            rejected = f"{problem.columns['solution']} <answer>{int(problem.answer) + 1}</answer>"
            file.write(json.dumps({"prompt": problem.prompt, "chosen": chosen, "rejected": rejected}) + "\n")


def measure(
    name: str, folder: Path, reference: Callable[[], Runner], given: argparse.Namespace
) -> tuple[int, list[list[dict[str, Cost]]]]:
    """Return the rows of a turn, and the turns of bare TRL GRPO and of one algorithm for each pair of processes."""
    step = freeze(
        [*COMMON, *([] if name == "dpo" else REWARDS), *ROWS[name]], folder / name.replace(" ", "-")
    )
    rows, num_steps = turn_of(step.trainer_args)
    starts = {"bare": reference, "ours": lambda: start_through_r1exp(step, folder, num_steps)}
    return rows, pairs(starts, given.processes, given.turns)


def turn_of(arguments: dict[str, Any]) -> tuple[int, int]:
    """Return the rows and the optimizer steps of one turn: a whole generation batch, or 256 pairs."""
    accumulation = arguments["gradient_accumulation_steps"]
    if "steps_per_generation" not in arguments:
        rows = arguments["per_device_train_batch_size"] * accumulation
        return 256, 256 // rows
    passes = arguments["steps_per_generation"]
    return arguments["per_device_train_batch_size"] * passes, passes // accumulation


def line(name: str, rows: int, bare_rows: int, found: list[list[dict[str, Cost]]]) -> tuple[str, float]:
    """Return the line of the table and the ratio."""

    def ratio_of(clock: str) -> tuple[float, float, float]:
        """Return completions per second of r1exp / of bare TRL, by processor or wall time."""
        share = rows / bare_rows
        return over_pairs(
            [
                [share * getattr(costs["bare"], clock) / getattr(costs["ours"], clock) for costs in rounds]
                for rounds in found
            ]
        )

    def median(which: str) -> float:
        return statistics.median(costs[which].processor for rounds in found for costs in rounds)

    value, low, high = ratio_of("processor")
    unit = "pairs" if name == "dpo" else "completions"
    figures = (
        f"{rows / median('ours'):.0f} {unit} | {bare_rows / median('bare'):.0f} | {value:.2f} "
        f"| {low:.2f} to {high:.2f} | {ratio_of('wall')[0]:.2f}"
    )
    return f"| {name} | {figures} |", value


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=5, help="pairs of processes of each algorithm")
    parser.add_argument("--turns", type=int, default=4, help="measured turns of each pair")
    parser.add_argument("--only", default=",".join(ROWS), help="rows of the table")
    parser.add_argument("--sft-steps", type=int, default=150)
    given = parser.parse_args()
    names = [name.replace("-", " ") if name.startswith("ppo") else name for name in given.only.split(",")]
    ratios = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.chdir(folder)
        policy(folder, given.sft_steps)
        step = freeze([*COMMON, *REWARDS, "algorithm=grpo"], folder / "reference")
        preferences(folder, step)
        bare_rows, num_steps = turn_of(step.trainer_args)
        job = str(bare_job(step, folder, "strict"))

        def reference() -> Runner:
            return Runner(bare, (job,), num_steps, folder / "bare.txt")

        print("| algorithm | per second | bare TRL GRPO | ratio | 95 % interval | ratio of wall times |")
        print("|---|---|---|---|---|---|", flush=True)
        for name in names:
            rows, found = measure(name, folder, reference, given)
            text, ratios[name] = line(name, rows, bare_rows, found)
            print(text, flush=True)
    return 0 if ratios.get("ppo separate", math.inf) >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())
