"""Compares for every setting whether it is part of a step's key with whether it changes the step's result.

    python benchmarks/step_keys.py [--stages sft,grpo] [--keys 'trainer.*'] [--processes 2] [--out table.tsv]

A finished step is reused by every run that plans a step with the same key (docs/reuse.md). So a setting that is not in
the key must change no result, and one that is in the key makes work twice if it changes none. Each stage is run with a
tiny model and two optimizer steps. Then each leaf key of its composed configuration is changed alone
(benchmarks/step_key_cases.py): the step is planned, and its key compared; it is run, and the hash of its artifact
compared. Every case is forked from a process that has loaded the libraries, and computes with one thread; the base of
every stage is run twice, and must give the same bytes. Prints the disagreements and exits with 1 if there are any.
"""

import argparse
import csv
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from step_key_cases import BASES, Case, Found, Inputs, Unmeasured, case_of, merged
from turns import FORKED

if TYPE_CHECKING:
    from r1exp.plan.steps import PlannedStep

PRELOADED = [
    "torch", "datasets", "peft", "math_verify", "trl.trainer.sft_trainer", "trl.trainer.grpo_trainer",
    "trl.trainer.dpo_trainer", "trl.trainer.reward_trainer", "r1exp.algorithm.trainers", "r1exp.algorithm.ppo_trainer",
    "r1exp.stage.train_rl", "r1exp.stage.train_sft", "r1exp.stage.train_reward_model", "r1exp.stage.measure",
    "trl.trainer.distillation_trainer", "r1exp.stage.train_distil",
    "r1exp.stage.sample_answers", "r1exp.stage.make_pairs", "r1exp.stage.filter_rows", "r1exp.stage.generate_answers", "r1exp.plan.steps", "r1exp.rollout.hf",
]  # fmt: skip
FAULTS = ("misses", "idle", "failed", "no case")  # verdicts that are disagreements


@dataclass(frozen=True)
class Outcome:
    """What became of one command line."""

    key: str | None  # of the step; None: it cannot be planned
    numerics: str  # what only shifts the last digits
    result: str  # hash of the artifact, or how the step ended without one
    seconds: float


@dataclass(frozen=True)
class Row:
    """One setting of one stage."""

    stage: str
    key: str
    change: str  # what was typed
    in_key: str  # yes, digits (in the part for what only shifts the last digits), no, or - where nothing was planned
    changes: str  # yes, no, or - where nothing was run
    verdict: str
    note: str


def main() -> None:
    """Measure every case, print the table of disagreements, and exit with 1 if there are any."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stages", default=",".join(BASES), help="names, separated by commas")
    parser.add_argument("--keys", default="*", help="patterns of keys, for example 'trainer.*,beta'")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--inputs", type=Path, help="folder in which the start models are kept for the next call"
    )
    parser.add_argument("--out", type=Path, help="file for the whole table, separated by tabs")
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) if given.inputs is None else given.inputs.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        rows = table(given.stages.split(","), given.keys.split(","), given.processes, folder)
    if given.out is not None:
        with given.out.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerow([field.name for field in fields(Row)])
            writer.writerows(asdict(row).values() for row in rows)
    wrong = [row for row in rows if row.verdict in FAULTS]
    for row in wrong:
        print(f"{row.verdict}: {row.stage} {row.change}: {row.note}")
    print(summary(rows))
    print(
        f"{len(rows)} settings, {len(wrong)} disagreements, {time.monotonic() - started:.0f} s with {given.processes} processes"
    )
    sys.exit(1 if wrong else 0)


def summary(rows: Sequence[Row]) -> str:
    """Return how many settings of each stage have which verdict, as a table in Markdown."""
    verdicts = list(dict.fromkeys([*VERDICTS, *(row.verdict for row in rows)]))
    lines = ["| stage | settings |" + "".join(f" {name} |" for name in verdicts)]
    lines.append("|---|" + "---|" * (1 + len(verdicts)))
    for stage in dict.fromkeys(row.stage for row in rows):
        counts = Counter(row.verdict for row in rows if row.stage == stage)
        lines.append(
            f"| {stage} | {counts.total()} |" + "".join(f" {counts[verdict]} |" for verdict in verdicts)
        )
    return "\n".join(lines)


VERDICTS = (
    "decides",  # in the key, and changes the result
    "changes nothing",  # not in the key
    "digits",  # in the second part of the key, with or without a change on this machine
    "refused",  # the stage does not accept it
    "not measured",  # with a reason in benchmarks/step_key_cases.py
    *FAULTS,
)


def table(stages: Sequence[str], patterns: Sequence[str], processes: int, folder: Path) -> list[Row]:
    """Return the rows of the settings of `stages` whose keys have one of the patterns."""
    FORKED.set_forkserver_preload(PRELOADED)
    inputs = Inputs(folder)
    with FORKED.Pool(processes, maxtasksperchild=1) as pool:
        cases = {
            stage: {
                key: case
                for key, case in cases_of(stage, inputs).items()
                if any(fnmatch(key, pattern) for pattern in patterns)
            }
            for stage in stages
        }
        lines = dict.fromkeys(
            (stage, setup, change)
            for stage in stages
            for case in [Case(()), *cases[stage].values()]
            if isinstance(case, Case)
            for setup, change in ((case.setup, ()), (case.setup, case.change))
        )
        jobs = [
            (stage, merged([*BASES[stage].line(inputs), *setup, *change]), folder)
            for stage, setup, change in lines
        ]
        if any(str(folder) in text for _, line, _ in jobs for text in line):
            _build(inputs, lambda *job: pool.apply(_artifact, job))
        _refuse_unequal(
            stages,
            pool.map(
                _outcome, 2 * [(stage, BASES[stage].line(inputs), folder) for stage in stages], chunksize=1
            ),
        )
        outcomes = {}
        for line, outcome in zip(lines, pool.imap(_outcome, jobs), strict=True):
            outcomes[line] = outcome
            if len(outcomes) % 50 == 0:
                print(f"{len(outcomes)} of {len(jobs)} command lines", file=sys.stderr)
    rows = [_row(stage, key, case, outcomes) for stage in stages for key, case in cases[stage].items()]
    return sorted(rows, key=lambda row: row.verdict not in FAULTS)


def _refuse_unequal(stages: Sequence[str], outcomes: Sequence[Outcome]) -> None:
    """Exit if the base of a stage fails, or gives other bytes when it is run again; `outcomes` has all of them twice."""
    for stage, first, again in zip(stages, outcomes[: len(stages)], outcomes[len(stages) :], strict=True):
        if (again.key, again.result) != (first.key, first.result) or not first.result.startswith("done"):
            raise SystemExit(f"the base of {stage} is not repeatable: {first.result}, then {again.result}")


def cases_of(stage: str, inputs: Inputs) -> dict[str, Found]:
    """Return for every leaf key of a stage's composed configuration how it is changed; None: nobody has said how."""
    from r1exp.config.compose import session
    from r1exp.config.experiment import experiment_from
    from r1exp.config.overrides import flat

    with session():
        (step,) = experiment_from(BASES[stage].line(inputs)).steps
    settings = flat(step.config.model_dump(mode="json"))
    settings |= {
        "model.quantization": None,
        "model.chat_template_kwargs": {},
    }  # in the dump where they are set
    return {key: case_of(stage, key, value, inputs) for key, value in settings.items()}


def _row(
    stage: str,
    key: str,
    case: Found,
    outcomes: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Outcome],
) -> Row:
    if case is None:
        return Row(stage, key, key, "-", "-", "no case", "add it to benchmarks/step_key_cases.py")
    if isinstance(case, Unmeasured):
        return Row(stage, key, key, "-", "-", "not measured", case.reason)
    base, other = outcomes[stage, case.setup, ()], outcomes[stage, case.setup, case.change]
    change = " ".join([*case.change, *(("with", *case.setup) if case.setup else ())])
    if other.key is None:
        verdict = "refused" if "does not read" in other.result and base.key is not None else "failed"
        return Row(stage, key, change, "-", "-", verdict, other.result)
    in_key = "yes" if other.key != base.key else "digits" if other.numerics != base.numerics else "no"
    changes = "yes" if other.result != base.result else "no"
    note = other.result
    if other.result.startswith("failed") or base.result.startswith(("failed", "refused")):
        verdict, note = "failed", f"{base.result}; {other.result}"
    elif in_key == "digits":
        verdict = "digits"
    elif in_key == changes:
        verdict = "decides" if in_key == "yes" else "changes nothing"
    else:
        verdict = "misses" if changes == "yes" else "idle"
    if verdict == "idle" and case.idle is not None:
        verdict, note = "not measured", case.idle
    return Row(stage, key, change, in_key, changes, verdict, note)


def _outcome(job: tuple[str, list[str], Path]) -> Outcome:
    """Plan and run a command line in this process, which runs nothing else."""
    stage, line, parent = job
    from r1exp.errors import Refused, StoppedByHealth

    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(dir=parent))
    with (folder / "log.txt").open("w") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    key, numerics = None, ""
    try:
        planned = _planned(stage, line)
        key, numerics = planned.key, str(sorted(planned.numerics.items()))
        result = f"done {_run(planned, folder)}"
    except StoppedByHealth:
        result = "stopped by a health rule"
    except Refused as error:
        result = f"refused: {error}"
    except Exception as error:  # noqa: BLE001 - the table shows it
        result = f"failed: {type(error).__name__}: {error}"
    shutil.rmtree(folder)
    return Outcome(key, numerics, result, time.monotonic() - started)


def _planned(stage: str, line: list[str]) -> "PlannedStep":
    """Compose and plan a command line, and return its step of the stage that is measured."""
    from r1exp.config.compose import session
    from r1exp.config.experiment import experiment_from
    from r1exp.plan.steps import planned_steps

    with session():
        steps = planned_steps(experiment_from(line))
    # `evaluation.before=true` adds evaluations, which are other steps.
    kind = BASES[stage].kind
    return next(step for step in steps if step.kind == kind)


def _run(planned: "PlannedStep", folder: Path) -> str:
    """Run a planned step and return the hash of its artifact."""
    import torch

    from r1exp.model.locate import locate
    from r1exp.model.tiny import build_tiny
    from r1exp.stage.run_stage import run_stage
    from r1exp.stage.step import Step

    config = planned.config
    torch.set_num_threads(config.launcher.threads_per_process or 1)
    place = locate(config.model)
    model = build_tiny(config.model, folder / "model") if place is None else place
    step = Step(
        name=planned.name, index=1, run_id="table", run_name="table", key=planned.key, data=planned.data, config=config,
        device="cpu", world_size=1, trainer_args=planned.trainer_args, model_path=str(model),
    )  # fmt: skip
    step.write(folder)
    os.chdir(folder)
    status = run_stage(step, folder)
    assert status.artifact is not None
    return status.artifact.hash


def _artifact(stage: str, line: list[str], folder: Path) -> None:
    """Make the artifact of a command line in `folder`."""
    work = Path(tempfile.mkdtemp(dir=folder.parent))
    with (folder.parent / f"{folder.name}.txt").open("w") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
        _run(_planned(stage, line), work)
    (work / "artifact").rename(folder)
    shutil.rmtree(work)


def _build(inputs: Inputs, make: Callable[[str, list[str], Path], None]) -> None:
    """Make the start models, the sampled answers and the pairs, unless an earlier call has made them."""
    missing = [recipe for recipe in inputs.recipes() if not (inputs.folder / recipe[0]).exists()]
    for name, stage, line in missing:
        make(stage, line, inputs.folder / name)
    if missing:
        inputs.finish()


if __name__ == "__main__":
    main()
