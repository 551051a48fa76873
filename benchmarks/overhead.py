"""How much slower is a GRPO step through r1exp than in a bare TRL script?

Ten interleaved pairs of the same run (tests/algorithm/bare_grpo.py knows nothing of r1exp), one
process, one thread. Compares the median step time that TRL itself logs, without the first step. Prints
the ratio r1exp / bare with its 95 % interval over pairs. The bar is 1.03.

    python benchmarks/overhead.py [pairs]
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from r1exp.statistics.intervals import mean_interval
from r1exp.step.frozen import read_step

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tests" / "algorithm" / "bare_grpo.py"
WORDS = [
    "stage=rl", "rewards=strict", "~rewards.format",
    "model.rows_per_device.rl=64", "algorithm.prompts_per_step=8", "max_steps=12", "evaluation.before=false",
    "evaluation.after=false", "tracking=none", "launcher.threads_per_process=1", "trainer.save_strategy=no",
]  # fmt: skip
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def ours(folder: Path, number: int) -> tuple[float, Path]:
    """Return the median step time through r1exp, and the step's folder."""
    words = [
        *WORDS,
        f"paths.run=run{number}",
        f"paths.store=store{number}",
    ]  # a store each: nothing is reused
    command = [sys.executable, "-m", "r1exp", *words]
    subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)
    step = folder / f"run{number}" / "steps" / "01-grpo"
    rows = [json.loads(line) for line in (step / "metrics.jsonl").read_text().splitlines()]
    return median([row["step_time"] for row in rows if "step_time" in row][1:]), step


def bare(folder: Path, number: int, step_folder: Path) -> float:
    """Return the median step time of the bare script with the same arguments, model and rows."""
    step = read_step(step_folder)
    system = {"role": "system", "content": step.config.prompt.system}
    problems = step.config.dataset.load("train")
    rows = [
        {"prompt": [system, {"role": "user", "content": problem.prompt}], "answer": problem.answer}
        for problem in problems
    ]
    job = {
        "reward": "strict",
        "model": step.model_path,
        "arguments": step.trainer_args,
        "rows": rows,
        "output": f"bare{number}",
    }
    (folder / "job.json").write_text(json.dumps(job))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "job.json"],
        cwd=folder,
        env=ENVIRONMENT,
        check=True,
        capture_output=True,
    )
    return median(json.loads(done.stdout.splitlines()[-1])[1:])


def main(num_pairs: int) -> None:
    """Run the pairs and print the ratio."""
    logs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, reference = ours(folder, 0)  # warms the caches, and says what the bare script must do
        for number in range(1, num_pairs + 1):
            pair = {
                "r1exp": lambda n=number: ours(folder, n)[0],
                "bare": lambda n=number: bare(folder, n, reference),
            }
            order = ("r1exp", "bare") if number % 2 else ("bare", "r1exp")
            seconds = {which: pair[which]() for which in order}
            logs.append(math.log(seconds["r1exp"] / seconds["bare"]))
            print(
                f"pair {number}: r1exp {seconds['r1exp']:.4f} s, bare {seconds['bare']:.4f} s a step",
                flush=True,
            )
    interval = mean_interval([[value] for value in logs])
    low, high = math.exp(interval.low), math.exp(interval.high)
    print(
        f"r1exp / bare TRL: {math.exp(interval.value):.3f}, 95 % interval {low:.3f} to {high:.3f}, {num_pairs} pairs"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
