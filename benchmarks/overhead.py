"""Measures how much slower an optimizer step of GRPO is through r1exp than in a bare TRL script.

    python benchmarks/overhead.py [--processes 8] [--turns 6] [--steps-per-turn 2]

The same run is executed by two processes of one thread in alternating turns (benchmarks/turns.py);
tests/algorithm/bare_grpo.py does not use r1exp. Prints the ratio r1exp / bare of a turn's processor time, with
callbacks, metrics and logging: the geometric mean over pairs of processes of the median over their turns, Student's
95 % interval over the pairs, and the ratio of wall times. The required ratio is at most 1.03.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from turns import Runner, bare, bare_job, build_tiny_policy, freeze, over_pairs, pairs, start_through_r1exp

OVERRIDES = [
    "stage=rl", "rewards=strict", "~rewards.format", "model.path=policy", "model.rows_per_device.rl=64",
    "algorithm.prompts_per_step=8", "max_steps=100000", "evaluation.before=false", "evaluation.after=false", "tracking=none",
    "launcher=local", "trainer.save_strategy=no", "algorithm.short_passes=false",  # the same passes as TRL's
]  # fmt: skip


def main() -> None:
    """Run the pairs and print the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=8, help="pairs of processes")
    parser.add_argument("--turns", type=int, default=6, help="measured turns of each pair")
    parser.add_argument("--steps-per-turn", type=int, default=2, help="optimizer steps per turn")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        build_tiny_policy(folder / "policy")
        step = freeze(OVERRIDES, folder / "step")
        job = str(bare_job(step, folder, "strict"))
        starts = {
            "bare": lambda: Runner(bare, (job,), given.steps_per_turn, folder / "bare.txt"),
            "r1exp": lambda: start_through_r1exp(step, folder, given.steps_per_turn),
        }
        found = pairs(starts, given.processes, given.turns)
    for which in starts:
        seconds = statistics.median(costs[which].processor for rounds in found for costs in rounds)
        print(f"{which}: {seconds / given.steps_per_turn:.4f} s of processor time per optimizer step")
    value, low, high = over_pairs(
        [[costs["r1exp"].processor / costs["bare"].processor for costs in rounds] for rounds in found]
    )
    wall, *_ = over_pairs(
        [[costs["r1exp"].wall / costs["bare"].wall for costs in rounds] for rounds in found]
    )
    print(
        f"r1exp / bare TRL: {value:.3f}, 95 % interval {low:.3f} to {high:.3f}, "
        f"{len(found)} pairs of processes; of wall times {wall:.3f}"
    )


if __name__ == "__main__":
    main()
