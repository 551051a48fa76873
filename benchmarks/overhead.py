"""How much slower is a GRPO step through r1exp than in a bare TRL script?

    python benchmarks/overhead.py [--turns 30] [--steps-per-turn 2]

The same run twice, in two processes of one thread that take turns (benchmarks/turns.py);
tests/algorithm/bare_grpo.py knows nothing of r1exp. Prints the ratio r1exp / bare of a turn's processor
time, callbacks, metrics and logging included: the median over pairs of neighbouring turns, its 95 %
bootstrap interval, and the ratio of wall times. The bar is 1.03.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from turns import Runner, bare, bare_job, build_tiny_policy, freeze, ratio, through_r1exp, turns

WORDS = [
    "stage=rl", "rewards=strict", "~rewards.format", "model.path=policy", "model.rows_per_device.rl=64",
    "algorithm.prompts_per_step=8", "max_steps=100000", "evaluation.before=false", "evaluation.after=false", "tracking=none",
    "launcher.threads_per_process=1", "trainer.save_strategy=no",
]  # fmt: skip


def main() -> None:
    """Run the pairs and print the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=30, help="pairs of turns that are measured")
    parser.add_argument("--steps-per-turn", type=int, default=2, help="optimiser steps")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        build_tiny_policy(folder / "policy")
        place = folder / "step"
        step = freeze(WORDS, place)
        runners = {
            "bare": Runner(
                bare, (str(bare_job(step, folder, "strict")),), given.steps_per_turn, folder / "bare.txt"
            ),
            "r1exp": Runner(through_r1exp, (str(place),), given.steps_per_turn, place / "log.txt"),
        }
        rounds = turns(runners, given.turns)
        for runner in runners.values():
            runner.close()
    for which in runners:
        seconds = statistics.median(costs[which].processor for costs in rounds) / given.steps_per_turn
        print(f"{which}: {seconds:.4f} s of processor time a step")
    value, low, high = ratio([costs["r1exp"].processor / costs["bare"].processor for costs in rounds])
    wall = statistics.median(costs["r1exp"].wall / costs["bare"].wall for costs in rounds)
    print(
        f"r1exp / bare TRL: {value:.3f}, 95 % interval {low:.3f} to {high:.3f}, "
        f"{len(rounds)} pairs; of wall times {wall:.3f}"
    )


if __name__ == "__main__":
    main()
