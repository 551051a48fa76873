"""Breaks the health rules in short runs of the tiny model, and shows that healthy runs break none.

    python benchmarks/health.py                                # every rule with a run; about 10 minutes on two cores
    python benchmarks/health.py --only kl_high,weak_signal
    python benchmarks/health.py --healthy                      # 10 runs of 100 optimizer steps, two sizes of model
    python benchmarks/health.py --healthy --only small-dapo
    python benchmarks/health.py --write                        # also the table of docs/health.md and the curves of docs/curves/

A run starts from one SFT of 150 optimizer steps (or from random weights) and has one setting that makes it go wrong. It must
break its rule within 20 optimizer steps; rules that break with it are listed. Exits with 1 if a rule is not broken, or if a
healthy run breaks one; a run that fails ends it. With --only, --write keeps the other rows of the table.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NUM_STEPS = 20  # optimizer steps within which a rule must break
_COMMON = (
    "tracking=none", "evaluation.before=false", "evaluation.after=false", "launcher=local",
)  # fmt: skip
_RL = (
    "num_generations=8",
    "algorithm.prompts_per_step=8",
    "trainer.logging_steps=1",
    "trainer.save_steps=1000",
)
_UNPAID = ("rewards=strict", "rewards.strict.weight=0", "rewards.format.weight=0")
_FAULTY = (*_UNPAID, "+rewards.short={kind: health_faults:short, weight: 1.0}")
_UNBOUNDED = (*_UNPAID, "+rewards.shorter={kind: health_faults:shorter, weight: 1.0}")
_STALE = ("rollout=vllm_colocate", "rollout.kind=health_faults:StaleColocate")
_VLLM = "vllm"


@dataclass(frozen=True)
class Trip:
    """A run that breaks a rule."""

    overrides: tuple[str, ...]  # what makes it go wrong
    from_sft: bool = True  # false: from random weights
    stage: tuple[str, ...] = ("stage=rl", *_RL)
    needs: str | None = None  # a package


TRIPS = {
    "kl_high": Trip(("learning_rate=3e-3", "beta=0")),
    "kl_explosion": Trip(("learning_rate=1e-2", "beta=0", "trainer.warmup_steps=0", "temperature=0.5")),
    "gradient_explosion": Trip(("algorithm=dr_grpo", *_UNBOUNDED, "learning_rate=2e-3")),
    "gradient_clipped": Trip(("trainer.max_grad_norm=0.05",)),
    "completions_clipped": Trip(("max_completion_length=16",)),
    "length_collapse": Trip((*_FAULTY, "learning_rate=2e-3")),
    "weak_signal": Trip(("rewards=strict",), from_sft=False),
    "no_signal": Trip(("rewards=strict",), from_sft=False),
    "reward_std_low": Trip(("learning_rate=3e-3", "beta=0")),
    "reward_std_high": Trip(("learning_rate=7e-4", "beta=0", "temperature=0.3", "rewards.graded.weight=3")),
    "reward_hacking": Trip((*_FAULTY, "learning_rate=2e-3")),
    "entropy_collapse": Trip(
        (*_FAULTY, "learning_rate=1e-2", "trainer.warmup_steps=2", "beta=0"), from_sft=False
    ),
    "sampler_gap": Trip((*_STALE, "learning_rate=5e-4"), needs=_VLLM),
    "stale_rollouts": Trip((*_STALE, "learning_rate=1e-2"), needs=_VLLM),
    "no_improvement": Trip(
        ("learning_rate=1e-9", "evaluation.every=2", "evaluation.num_validation=32", "evaluation.samples=0")
    ),
}

SMALL = (
    "model.shape.hidden_size=192",
    "model.shape.num_hidden_layers=3",
    "model.shape.intermediate_size=768",
)
_HEALTHY = {
    "grpo": ("algorithm=grpo", "seed=1"),
    "votes": ("algorithm=grpo", "rewards=vote_partial", "seed=2"),
    "ppo": ("algorithm=ppo", "seed=3"),
    "dr_grpo": ("algorithm=dr_grpo", "rewards=strict", "seed=4"),
    "dapo": ("algorithm=dapo", "seed=5"),
}
HEALTHY = {
    f"{size}-{name}": (*shape, *overrides, "learning_rate=1e-4")
    for size, shape in (("tiny", ()), ("small", SMALL))
    for name, overrides in _HEALTHY.items()
}


def run(name: str, folder: Path, overrides: tuple[str, ...]) -> Path:
    """Run r1exp and return the folder of the run's last step; rules may stop it, and nothing else."""
    place = folder / name
    done = subprocess.run(
        [sys.executable, "-m", "r1exp", *_COMMON, *overrides, f"name={place.name}", f"paths.runs={folder}",
         f"paths.run={place}"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 4):  # 4: stopped by a health rule
        raise RuntimeError(f"{name}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return sorted((place / "steps").iterdir())[-1]


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines; none if it is not there."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def broken(step: Path) -> dict[str, int]:
    """Return rule -> optimizer step at which it was first broken."""
    found: dict[str, int] = {}
    for row in rows_of(step / "health.jsonl"):
        found.setdefault(row["rule"], row["step"])
    return found


def trips(folder: Path, chosen: list[str], write: bool) -> bool:
    """Break each rule and print the table; return whether all were broken in time."""
    needs_sft = any(TRIPS[name].from_sft for name in chosen)
    start = run("sft", folder, ("stage=sft", "max_steps=150")) if needs_sft else folder
    lines = [
        "| rule | what goes wrong | broken at step | value, bound | also broken |",
        "|---|---|---|---|---|",
    ]
    in_time = True
    for name in chosen:
        trip = TRIPS[name]
        if trip.needs is not None and find_spec(trip.needs) is None:
            lines.append(f"| `{name}` | {_code(trip)} | not run: needs {trip.needs} | | |")
            continue
        model = (f"model.path={start / 'artifact'}",) if trip.from_sft else ()
        # A rule that stops the run before its own rule is seen only warns here.
        others = [f"health.rules.{rule}.action=warn" for rule in _stopping() if rule != name]
        step = run(name, folder, (*trip.stage, f"max_steps={NUM_STEPS}", *model, *others, *trip.overrides))
        found = broken(step)
        in_time = in_time and name in found
        others_text = ", ".join(f"`{rule}` {at}" for rule, at in found.items() if rule != name)
        row = next((row for row in rows_of(step / "health.jsonl") if row["rule"] == name), None)
        value = "" if row is None else f"{row['value']:.3g}, {row['bound']:.3g}"
        lines.append(f"| `{name}` | {_code(trip)} | {found.get(name, 'never')} | {value} | {others_text} |")
        print(lines[-1], flush=True)
        if write and row is not None:
            draw(name, row, rows_of(step / "metrics.jsonl"))
    print("\n".join(lines))
    if write:
        replace_table("trips", lines, [f"`{name}`" for name in TRIPS])
    return in_time


def healthy(folder: Path, chosen: list[str], write: bool, num_steps: int) -> bool:
    """Run healthy runs and print the table; return whether none broke a rule."""
    keys = {"kl": "kl", "grad_norm": "grad_norm", "reward": "reward", "reward_std": "reward_std",
            "groups_with_signal": "signal", "completions/mean_terminated_length": "tokens"}  # fmt: skip
    lines = [f"| run | rules broken | {' | '.join(keys.values())} |", f"|---|---|{'---|' * len(keys)}"]
    none = True
    for name in chosen:
        step = run(name, folder, (*_RL, *HEALTHY[name], f"max_steps={num_steps}"))
        found = [broken(each) for each in sorted(step.parent.iterdir())]
        none = none and not any(found)
        rows = rows_of(step / "metrics.jsonl")
        texts = ", ".join(f"`{rule}` {at}" for each in found for rule, at in each.items()) or "none"
        lines.append(
            f"| {name.replace('-', ', ')} | {texts} | {' | '.join(_span(rows, key) for key in keys)} |"
        )
        print(lines[-1], flush=True)
    print("\n".join(lines))
    if write:
        replace_table("healthy", lines, [name.replace("-", ", ") for name in HEALTHY])
    return none


def draw(name: str, broken_row: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write docs/curves/NAME.svg: the metric of a rule over optimizer steps, its bound, and where it was broken."""
    metric, step, bound = broken_row["metric"], broken_row["step"], broken_row["bound"]
    points = [(row["step"], row[metric]) for row in rows if row.get(metric) is not None]
    width, height, left, bottom, top = 560, 180, 64, 28, 26
    high = max([value for _, value in points] + [bound]) or 1.0
    low = min([value for _, value in points] + [bound, 0.0])
    last = max(max(at for at, _ in points), 1)

    def x(at: float) -> float:
        return round(left + (width - left - 12) * at / last, 1)

    def y(value: float) -> float:
        return round(top + (height - top - bottom) * (1 - (value - low) / (high - low)), 1)

    line = " ".join(f"{x(at)},{y(value)}" for at, value in points)
    dots = "".join(f'<circle cx="{x(at)}" cy="{y(value)}" r="2.5"/>' for at, value in points)
    text = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
  font-family="sans-serif" font-size="12">
<title>{metric} in a run that breaks {name} at optimizer step {step}</title>
<rect width="{width}" height="{height}" fill="#ffffff"/>
<text x="{left}" y="15" fill="#1f2328">{metric}; {name} is broken at optimizer step {step}</text>
<line x1="{left}" x2="{width - 12}" y1="{y(low)}" y2="{y(low)}" stroke="#59636e"/>
<line x1="{left}" x2="{width - 12}" y1="{y(bound)}" y2="{y(bound)}" stroke="#b35900" stroke-dasharray="6 4"/>
<text x="{left - 6}" y="{y(bound) + 4}" text-anchor="end" fill="#8a4600">{bound:.3g}</text>
<text x="{left - 6}" y="{y(low) + 4 if abs(y(low) - y(bound)) > 12 else -20}" text-anchor="end" fill="#59636e">{low:.3g}</text>
<text x="{left - 6}" y="{y(high) + 4 if abs(y(high) - y(bound)) > 12 else -20}" text-anchor="end" fill="#59636e">{high:.3g}</text>
<line x1="{x(step)}" x2="{x(step)}" y1="{top}" y2="{height - bottom}" stroke="#b35900"/>
<g fill="#0550ae"><polyline points="{line}" fill="none" stroke="#0550ae" stroke-width="1.5"/>{dots}</g>
<text x="{left}" y="{height - 8}" fill="#59636e">0</text>
<text x="{width - 12}" y="{height - 8}" text-anchor="end" fill="#59636e">optimizer step {last}</text>
</svg>
"""
    folder = DOCS / "curves"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.svg").write_text(text)


def replace_table(name: str, lines: list[str], order: list[str]) -> None:
    """Replace rows of a table of docs/health.md, between two marks; rows of `order` that were not run stay."""
    page = DOCS / "health.md"
    before, _, rest = page.read_text().partition(f"<!-- begin: benchmarks/health.py {name} -->\n")
    old, mark, after = rest.partition(f"<!-- end: {name} -->")
    assert mark, f"docs/health.md has no marks for {name}"
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in (*old.splitlines()[2:], *lines[2:])}
    table = "\n".join([*lines[:2], *(rows[key] for key in order if key in rows)])
    page.write_text(f"{before}<!-- begin: benchmarks/health.py {name} -->\n{table}\n{mark}{after}")


def _code(trip: Trip) -> str:
    texts = [text.replace("|", "\\|") for text in trip.overrides]
    return ("" if trip.from_sft else "random weights, ") + " ".join(f"`{text}`" for text in texts)


def _span(rows: list[dict[str, Any]], key: str) -> str:
    values = [row[key] for row in rows if row.get(key) is not None]
    if not values:
        return ""
    first, last = (sum(part) / len(part) for part in (values[:10], values[-10:]))
    return f"{first:.2g} to {last:.2g}"


def _stopping() -> list[str]:
    rules = yaml.safe_load((ROOT / "conf" / "health" / "default.yaml").read_text())["rules"]
    return [name for name, rule in rules.items() if rule["action"] == "stop"]


def main() -> int:
    """Return 0 if every rule was broken in time, and by no healthy run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", default="", help="rules, or with --healthy runs (small-dapo), separated by commas"
    )
    parser.add_argument("--healthy", action="store_true", help="run the healthy runs instead")
    parser.add_argument("--steps", type=int, default=100, help="optimizer steps of a healthy run")
    parser.add_argument(
        "--write", action="store_true", help="write the table into docs/health.md, and docs/curves/"
    )
    parser.add_argument("--folder", type=Path, help="where the runs are kept; without it they are deleted")
    options = parser.parse_args()
    known = list(HEALTHY if options.healthy else TRIPS)
    chosen = options.only.split(",") if options.only else known
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"--only: {unknown[0]!r} is none of {', '.join(known)}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        good = (
            healthy(folder, chosen, options.write, options.steps)
            if options.healthy
            else trips(folder, chosen, options.write)
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
