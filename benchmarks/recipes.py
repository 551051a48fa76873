"""Runs every recipe of the source documents on its tiny twin, and prints its accuracies step by step.

    python benchmarks/recipes.py [--only open_r1,limo_sft_grpo] [--seeds 1,2,3] [--folder runs/recipes] [OVERRIDE ...]

A twin has the steps of the recipe on a policy with half a million weights and generated sums (docs/recipes.md). Each is one
command, so that a run that was killed goes on where it ended: type the same line again. The accuracy is that of answers
sampled for the held-out problems, with its 95 % interval over problems; rows without one are steps that make data. Seconds are
those of the step where it was executed. The exit code is 1 if a recipe does not come to its end.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECIPES: dict[str, list[str]] = {
    "open_r1": ["experiment=open_r1_twin"],
    "limo_sft": ["experiment=limo_sft_twin"],
    "limo_sft_grpo": ["experiment=limo_sft_grpo_twin"],
    "deepseek_r1_zero": ["experiment=deepseek_r1_zero_twin"],
    "deepseek_r1": ["experiment=deepseek_r1_twin"],
    "rlhf_ppo": ["pipeline=rlhf_ppo", "max_steps=200"],
    "dpo_from_rewards": ["pipeline=dpo_from_rewards"],
}
COMMON = ["tracking=none", "evaluation.before=false", "evaluation.greedy=false"]


@dataclass(frozen=True)
class Row:
    """One step of a run."""

    recipe: str
    seed: int
    step: str
    accuracy: str  # in percent with its interval; empty if no accuracy was measured
    wrote_format: str  # share of answers in the right format, in percent; empty if it was not measured
    seconds: float


def run(recipe: str, seed: int, folder: Path, more: list[str]) -> tuple[int, dict[str, Any]]:
    """Run a recipe, or go on with it; return the exit code and the summary."""
    place = folder / f"{recipe}-{seed}"
    command = [
        *RECIPES[recipe],
        *COMMON,
        f"seed={seed}",
        f"paths.run={place}",
        f"paths.store={folder / '.store'}",
        *more,
    ]
    print(f"r1exp {' '.join(command)}", file=sys.stderr, flush=True)
    code = subprocess.run(
        [sys.executable, "-m", "r1exp", *command], stdout=subprocess.DEVNULL, check=False
    ).returncode
    path = place / "summary.json"
    return code, json.loads(path.read_text()) if path.exists() else {"steps": {}}


def rows_of(recipe: str, seed: int, summary: dict[str, Any]) -> list[Row]:
    """Return the steps of a run in order, each with the accuracy of the model that it made."""
    measured = {
        name.removesuffix("_accuracy"): value for name, value in summary.items() if name.endswith("_accuracy")
    }
    rows = []
    for name, entry in summary["steps"].items():
        label = name.removeprefix("evaluate-").replace("-", "_")
        score = measured.get(label, {}).get("sampled")
        text = (
            ""
            if score is None
            else f"{100 * score['value']:.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"
        )
        suite: dict[str, Any] = next(iter(summary.get("evaluations", {}).get(label, {}).values()), {})
        share = suite.get("sampled", {}).get("format", {}).get("value")
        wrote = "" if share is None else f"{100 * share:.1f}"
        seconds = entry["seconds"] or entry.get("original_seconds", 0.0)
        rows.append(Row(recipe, seed, name, text, wrote, seconds))
    return rows


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    lines = ["| recipe | seed | step | accuracy, % | format, % | seconds |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.recipe} | {row.seed} | {row.step} | {row.accuracy} | {row.wrote_format} | {row.seconds:.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    """Run what was asked for and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(RECIPES), help="recipes, separated by commas")
    parser.add_argument("--seeds", default="1", help="training seeds, separated by commas")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/recipes"), help="folder of the runs and their store"
    )
    parser.add_argument("overrides", nargs="*", help="overrides of every run, for example debug=fast")
    options = parser.parse_args()
    chosen = options.only.split(",")
    unknown = [name for name in chosen if name not in RECIPES]
    if unknown:
        parser.error(f"no recipe {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    rows: list[Row] = []
    failed: list[str] = []
    begun = time.monotonic()
    for seed in map(int, options.seeds.split(",")):
        for recipe in chosen:
            code, summary = run(recipe, seed, options.folder, options.overrides)
            rows += rows_of(recipe, seed, summary)
            failed += [] if code == 0 else [f"{recipe} with seed {seed} ended with exit code {code}"]
    print(table(rows))
    print(
        f"\n{time.monotonic() - begun:.0f} s in all; summary.json and report.html of each run are below {options.folder}"
    )
    for text in failed:
        print(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
