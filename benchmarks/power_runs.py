"""Trains 200 very small runs in one process: four settings by 50 seeds, for benchmarks/power.py.

    python benchmarks/power_runs.py --output runs/power-runs            # about 25 core-minutes

Each run is a GRPO step of a few optimizer steps from one SFT model, and an evaluation on 100 problems with four sampled
answers each. The steps are those that `r1exp` plans, executed as a rank executes them (`r1exp.stage.run_stage`), but in one
process, because starting 400 processes would take an hour. Runs that are there already are not computed again.

    <output>/<setting>-<seed>.json     outcomes, tokens and format of each answer
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

SETTINGS = {  # name -> overrides of the GRPO step
    "low-plain": ["learning_rate=5e-5", "rewards.xml_count.weight=0"],
    "low-format": ["learning_rate=5e-5", "rewards.xml_count.weight=1"],
    "high-plain": ["learning_rate=2e-4", "rewards.xml_count.weight=0"],
    "high-format": ["learning_rate=2e-4", "rewards.xml_count.weight=1"],
}
PROBLEMS, SAMPLES, SEEDS = 100, 4, 50
_QUIET = [
    "tracking=none", "health=off", "launcher.device=cpu", "launcher=local", "completions.per_step=0",
    "evaluation.before=false", "evaluation.after=false",
]  # fmt: skip
_SFT = ["stage=sft", "max_steps=400"]
_RL = [
    "stage=rl", "algorithm=grpo", "max_steps=8", "algorithm.prompts_per_step=8", "num_generations=8",
    "trainer.lr_scheduler_type=constant", "trainer.save_strategy=no", "beta=0", "trainer.logging_steps=8",
]  # fmt: skip
_EVALUATE = [
    "stage=evaluate", f"evaluation.num_problems={PROBLEMS}", f"evaluation.samples={SAMPLES}",
    "evaluation.greedy=false",
]  # fmt: skip


def execute(overrides: Sequence[str], folder: Path) -> Path:
    """Plan one step, run it in this process, and return the folder of its artifact."""
    from r1exp.config.compose import session
    from r1exp.config.experiment import experiment_from
    from r1exp.paths import StepPaths
    from r1exp.plan.steps import planned_steps
    from r1exp.stage.run_stage import run_stage
    from r1exp.stage.step import Step

    with session():
        (planned,) = planned_steps(experiment_from([*overrides, *_QUIET]))
    path = planned.config.model.path
    step = Step(
        name=planned.name, index=1, run_id=folder.name, run_name="power", key=planned.key, data=planned.data, config=planned.config,
        device="cpu", world_size=1, trainer_args=planned.trainer_args, model_path=str(path or folder.parent / "base"),
    )  # fmt: skip
    if path is None and not Path(step.model_path).exists():
        from r1exp.model.tiny import build_tiny

        build_tiny(planned.config.model, Path(step.model_path))
    folder.mkdir(parents=True)
    step.write(folder)
    run_stage(step, folder)
    return StepPaths(folder).artifact


def answers_of(artifact: Path) -> dict[str, Any]:
    """Return for each problem whether each answer is correct, whether it has the format, and its tokens."""
    found: dict[str, dict[str, list[Any]]] = {}
    for line in (artifact / "answers.jsonl").read_text().splitlines():
        row = json.loads(line)
        mine = found.setdefault(row["problem_id"], {"correct": [], "format": [], "tokens": []})
        for name, value in (
            ("correct", row["correct"]),
            ("format", row["format"]),
            ("tokens", row["num_tokens"]),
        ):
            mine[name].append(int(value))
    return {name: [mine[name] for mine in found.values()] for name in ("correct", "format", "tokens")}


def main() -> None:
    """Compute the runs that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        base = options.output.resolve() / "sft"
        if not base.exists():
            shutil.copytree(execute(_SFT, Path(scratch) / "sft"), base)
        for seed in range(1, options.seeds + 1):
            for name, words in SETTINGS.items():
                path = options.output / f"{name}-{seed}.json"
                if path.exists():
                    continue
                started, folder = time.process_time(), Path(scratch) / f"{name}-{seed}"
                model = execute([*_RL, *words, f"seed={seed}", f"model.path={base}"], folder / "rl")
                trained = time.process_time()
                scored = execute([*_EVALUATE, f"seed={seed}", f"model.path={model}"], folder / "evaluate")
                path.write_text(json.dumps(answers_of(scored)))
                shutil.rmtree(folder)
                took = time.process_time()
                print(f"{path.name}: {trained - started:.1f} + {took - trained:.1f} s", flush=True)


if __name__ == "__main__":
    main()
