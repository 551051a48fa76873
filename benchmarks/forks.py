"""Measures what forks do to the noise of a difference between two settings, and where their answer is another one.

    python benchmarks/forks.py --folder=/tmp/forks            # run what is missing, then print the tables
    python benchmarks/forks.py --folder=/tmp/forks --report   # print the tables of what is there

For each of ten contrasts (one setting changed) and each seed: a whole run with the change, and a fork of the unchanged run
(the trunk, at half of its optimizer steps) with the change. A difference is measured in three ways:

    independent   changed whole run of one seed - unchanged whole run of another seed; cost 2 T optimizer steps
    same seed     changed whole run - unchanged whole run of the same seed; cost 2 T
    fork          fork - its trunk, which is the unchanged control; cost T - N, and T / K of the trunk that K forks share

Noise is the variance of one difference times its cost, so that the ratio of two noises is the ratio of the variances at equal
cost. Intervals are bootstrap intervals over seeds. Outcomes are means over the last optimizer steps of training, on the
prompts that the trunk and its forks have in common.

All runs fork their ranks from one fork server, which has imported torch and TRL once, so that a run has no start of its own.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r1exp.config.compose import session
from r1exp.errors import ExitCode
from r1exp.launcher.fork_client import fork_servers
from r1exp.paths import RunPaths
from r1exp.plan.fork import find_parent
from r1exp.plan.members import member_of
from r1exp.runner.fork import command_of_fork
from r1exp.runner.run_directory import perform, start_run
from r1exp.statistics.student import quantile
from r1exp.tracking.metrics import MetricsFile

STEPS, FORK_AT, LAST = 24, 12, 6  # optimizer steps: of a run, before a fork, over which outcomes are averaged
OUTCOMES = {
    "accuracy reward": "rewards/graded/mean",
    "tokens": "completions/mean_length",
    "KL": "kl",
}
CONTRASTS = {
    "KL penalty x 10": "beta=0.05",
    "learning rate x 3": "learning_rate=6e-4",
    "clip range 0.02": "trainer.epsilon=0.02",
    "temperature 0.7": "temperature=0.7",
    "group of 4": "num_generations=4",
    "loss of Dr. GRPO": "trainer.loss_type=dr_grpo",
    "no format reward": "rewards.xml_count.weight=0",
    "gradient clip 0.05": "trainer.max_grad_norm=0.05",
    "advantages not scaled": "trainer.scale_rewards=none",
    "at most 20 tokens": "max_completion_length=20",
}
_BASE = (
    "stage=rl", "algorithm.prompts_per_step=4", "num_generations=8", "algorithm.minibatches=2", f"max_steps={STEPS}",
    "trainer.warmup_steps=2", f"trainer.save_steps={FORK_AT}", "trainer.save_total_limit=3", "evaluation.before=false",
    "evaluation.after=false", "tracking=none", "health=off", "launcher=local", "launcher.threads_per_process=1", "launcher.device=cpu",
)  # fmt: skip


def run_once(folder: Path, arguments: Sequence[str]) -> None:
    """Run one command line in a folder, unless it is done there."""
    summary = RunPaths(folder).summary
    if summary.exists() and json.loads(summary.read_text())["state"] == "done":
        return
    begun = time.monotonic()
    with session():
        member = member_of(arguments)
        code, _, _ = perform(start_run(member.experiment, member.steps, folder))
    if code != ExitCode.DONE:
        raise SystemExit(f"{folder} ended with exit code {code}")
    print(f"{folder.name}: {time.monotonic() - begun:.0f} s", flush=True)


def start_model(place: Path) -> Path:
    """Return the model that every run starts from: it knows the format, and some of the sums."""
    run_once(
        place / "sft",
        ("stage=sft", "max_steps=100", "evaluation.before=false", "evaluation.after=false", "tracking=none",
         "health=off", f"paths.store={place / 'store'}", "launcher=local", "launcher.threads_per_process=1", "launcher.device=cpu"),
    )  # fmt: skip
    return next((place / "sft" / "steps").glob("*sft")) / "artifact"


def whole(place: Path, model: Path, seed: int, change: str | None, *, is_seeded: bool) -> Path:
    """Run a whole run, and return its folder."""
    name = f"whole-{'trunk' if change is None else change}-{seed}{'' if is_seeded else '-stream'}"
    folder = place / name.replace("/", "-")
    arguments = [*_BASE, f"model.path={model}", f"seed={seed}", f"paths.store={place / 'store'}"]
    arguments += [f"rollout.seed_each_batch={str(is_seeded).lower()}"]
    arguments = [
        text for text in arguments if change is None or not text.startswith(change.partition("=")[0] + "=")
    ]
    run_once(folder, [*arguments, *([] if change is None else [change])])
    return folder


def fork(place: Path, trunk: Path, seed: int, change: str, *, is_seeded: bool) -> Path:
    """Fork a trunk with a change, and return the folder of the fork."""
    folder = place / f"fork-{change}-{seed}{'' if is_seeded else '-stream'}".replace("/", "-")
    with session():
        arguments = command_of_fork(find_parent(trunk, None, FORK_AT), [change])
    run_once(folder, arguments)
    return folder


def run_missing(place: Path, seeds: Sequence[int], of_streams: Mapping[str, str]) -> None:
    """Run the trunks, whole runs and forks that are not there; of `of_streams` also forks without seed_each_batch."""
    model = start_model(place)
    for seed in seeds:
        trunk = whole(place, model, seed, None, is_seeded=True)
        for change in CONTRASTS.values():
            whole(place, model, seed, change, is_seeded=True)
            fork(place, trunk, seed, change, is_seeded=True)
    for seed in seeds if of_streams else ():
        trunk = whole(place, model, seed, None, is_seeded=False)
        for change in of_streams.values():
            fork(place, trunk, seed, change, is_seeded=False)


def outcomes_of(run: Path) -> list[float]:
    """Return the outcomes of a run: means over its last optimizer steps."""
    (file,) = run.glob("steps/*-grpo/metrics.jsonl")
    rows = [row for row in MetricsFile(file).rows() if row["step"] > STEPS - LAST]
    return [float(np.mean([row[metric] for row in rows if metric in row])) for metric in OUTCOMES.values()]


@dataclass(frozen=True)
class Contrast:
    """The outcomes of one setting against the unchanged one; each array has a row for each seed and a column for each outcome."""

    control: Any  # of the trunks
    whole: Any  # of whole runs with the change
    fork: Any  # of forks with the change

    def noises(self, num_sharing: int) -> Any:
        """Return variance x cost of a difference: independent, same seed, fork; an array of (3, outcomes)."""
        independent = self.control.var(axis=0, ddof=1) + self.whole.var(axis=0, ddof=1)
        same_seed = (self.whole - self.control).var(axis=0, ddof=1)
        forked = (self.fork - self.control).var(axis=0, ddof=1)
        cost = STEPS - FORK_AT + STEPS / num_sharing
        return np.stack([independent * 2 * STEPS, same_seed * 2 * STEPS, forked * cost])

    def effects(self) -> Any:
        """Return the mean differences: whole runs of the same seed, forks; an array of (2, outcomes)."""
        return np.stack([(self.whole - self.control).mean(axis=0), (self.fork - self.control).mean(axis=0)])

    def at(self, seeds: Any) -> "Contrast":
        """Return the contrast of some seeds."""
        return Contrast(self.control[seeds], self.whole[seeds], self.fork[seeds])


def ratios(contrasts: Sequence[Contrast], num_sharing: int) -> Any:
    """Return for each outcome the geometric mean over contrasts of the noise of same seed and of fork, over independent; (2, outcomes)."""
    noises = np.stack([each.noises(num_sharing) for each in contrasts])
    return np.exp(np.log(np.maximum(noises[:, 1:], 1e-12) / np.maximum(noises[:, :1], 1e-12)).mean(axis=0))


def interval(statistic: Callable[[Any], Any], num_seeds: int, num_draws: int = 2000) -> tuple[Any, Any]:
    """Return the bounds of a 95 % bootstrap interval over seeds; a draw has at least three different ones."""
    generator = np.random.default_rng(0)
    found: list[Any] = []
    while len(found) < num_draws:
        seeds = generator.integers(0, num_seeds, num_seeds)
        if len(set(seeds.tolist())) >= min(3, num_seeds):
            found.append(statistic(seeds))
    low, high = np.percentile(np.stack(found), [2.5, 97.5], axis=0)
    return low, high


def report(place: Path, seeds: Sequence[int], *, is_seeded: bool, changes: Mapping[str, str]) -> None:
    """Print the tables of the runs that are there."""
    end = "" if is_seeded else "-stream"
    control = np.array([outcomes_of(place / f"whole-trunk-{seed}{end}") for seed in seeds])
    contrasts = {
        name: Contrast(
            control,
            np.array([outcomes_of(place / f"whole-{change}-{seed}") for seed in seeds]),
            np.array([outcomes_of(place / f"fork-{change}-{seed}{end}") for seed in seeds]),
        )
        for name, change in changes.items()
    }
    every, number = list(contrasts.values()), len(seeds)
    print(f"\n{number} seeds, {len(contrasts)} contrasts, rollout.seed_each_batch={str(is_seeded).lower()}\n")
    print("| outcome | trunk shared by | same seed / independent | fork / independent |\n|---|---|---|---|")
    for index, outcome in enumerate(OUTCOMES):
        for sharing in (1, len(contrasts)):
            value = ratios(every, sharing)[:, index]

            def drawn(chosen: Any, num_sharing: int = sharing) -> Any:
                return ratios([each.at(chosen) for each in every], num_sharing)

            low, high = interval(drawn, number)
            cells = [f"{value[k]:.2f} [{low[k, index]:.2f}, {high[k, index]:.2f}]" for k in (0, 1)]
            print(f"| {outcome} | {sharing} | {cells[0]} | {cells[1]} |")
    for index, outcome in enumerate(OUTCOMES):
        print(
            f"\n| {outcome}: contrast | whole runs | forks | fork / independent noise | disagree |\n|---|---|---|---|---|"
        )
        for name, each in contrasts.items():
            effects = each.effects()[:, index]
            half = [
                student(difference[:, index]) for difference in (each.whole - control, each.fork - control)
            ]
            gap = (each.whole - each.fork)[:, index]
            noise = each.noises(len(contrasts))[:, index]
            ratio = noise[2] / noise[0] if noise[0] else float("nan")
            differs = abs(gap.mean()) > student(gap) and gap.any()
            cells = [
                f"{effects[k]:+.3f} [{effects[k] - half[k]:+.3f}, {effects[k] + half[k]:+.3f}]"
                for k in (0, 1)
            ]
            told = all(abs(effects[k]) > half[k] for k in (0, 1))
            word = "" if not differs else "sign" if told and effects[0] * effects[1] < 0 else "size"
            print(f"| {name} | {cells[0]} | {cells[1]} | {ratio:.2f} | {word} |")


def student(differences: Any) -> float:
    """Return half of the width of Student's 95 % interval of a mean."""
    return float(quantile(len(differences) - 1) * differences.std(ddof=1) / len(differences) ** 0.5)


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/forks"), help="of the runs")
    parser.add_argument("--seeds", type=int, default=5, help="replicates")
    parser.add_argument("--stream", action="store_true", help="also forks without rollout.seed_each_batch")
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args()
    place = options.folder.resolve()
    place.mkdir(parents=True, exist_ok=True)
    seeds = range(1, options.seeds + 1)
    of_streams = dict(list(CONTRASTS.items())[:4])
    if not options.report:
        with fork_servers():
            run_missing(place, seeds, of_streams if options.stream else {})
    report(place, seeds, is_seeded=True, changes=CONTRASTS)
    if options.stream:
        report(place, seeds, is_seeded=False, changes=of_streams)


if __name__ == "__main__":
    main()
