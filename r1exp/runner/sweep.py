"""One command line, one or many runs: expand, check every member, then run them one after the other.

Hydra's sweeper drives the members and gets each one's objective, so that any sweeper plug-in can
optimize it. A member that fails does not stop the others.
"""

import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from r1exp.config.compose import Composition, compose, session, words_of
from r1exp.config.experiment import Experiment, experiment_from
from r1exp.config.overrides import Word
from r1exp.config.targets import flat
from r1exp.errors import ExitCode, R1ExpError, Refused
from r1exp.files import write_json
from r1exp.plan.show import plan_text
from r1exp.plan.slurm_job import job_of
from r1exp.plan.steps import PlannedStep, planned_steps
from r1exp.report.summary import headline
from r1exp.report.sweep import sweep_report
from r1exp.runner.run_directory import perform, start_run
from r1exp.runner.slurm_submit import refuse_job
from r1exp.runner.sweep_status import SWEEP


@dataclass(frozen=True)
class Member:
    """One run of a sweep, checked."""

    texts: tuple[str, ...]
    experiment: Experiment
    steps: tuple[PlannedStep, ...]


def plan_members(texts: Sequence[str], is_multirun: bool, config_dirs: Sequence[Path]) -> str:
    """Return the plan of a command line; of a sweep, its members and the plan of the first."""
    with session(config_dirs):
        members = _checked(words_of(texts), is_multirun)
        text = plan_text(members[0].experiment, members[0].steps)
        if len(members) == 1:
            return text
        listed = "".join(f"  {number}: {' '.join(member.texts)}\n" for number, member in enumerate(members))
        return f"{len(members)} runs\n{listed}\nThe first of them\n\n{text}"


def run_members(texts: Sequence[str], is_multirun: bool, config_dirs: Sequence[Path]) -> ExitCode:
    """Check every member of a command line, then run them; return the worst exit code."""
    with session(config_dirs):
        words = words_of(texts)
        members = _checked(words, is_multirun)
        _refuse_jobs(members, words)
        if not _is_sweep(words, is_multirun):
            (member,) = members
            run = start_run(member.experiment, member.steps)
            code, summary, job = perform(run)
            _say(_told(run.folder, summary, job))
            return code
        return _sweep(words)


def _told(folder: Path, summary: dict[str, Any], job: int | None) -> str:
    """Return what a person reads about a run that ended, or that SLURM has now."""
    if summary:
        return headline(summary, folder)
    return f"job {job} submitted: {folder}; `r1exp sweep status {shlex.quote(str(folder))}` says how it is"


def _is_sweep(words: Sequence[Word], is_multirun: bool) -> bool:
    swept = [word.text for word in words if word.is_sweep]
    asked = is_multirun or _groups_alone(words).mode == "MULTIRUN"
    if swept and not asked:
        raise Refused(f"{swept[0]} lists several values, so it is a sweep: put -m before the overrides")
    return asked


def _groups_alone(words: Sequence[Word]) -> Composition:
    """Compose the chosen files without the values typed over them."""
    return compose([word for word in words if word.is_group and not word.is_sweep], is_whole=False)


def _checked(words: Sequence[Word], is_multirun: bool) -> list[Member]:
    """Compose and plan every member, before anything is written."""
    if not _is_sweep(words, is_multirun):
        combinations = [tuple(word.text for word in words)]
    else:
        combinations = _combinations(words)
    members = []
    for texts in combinations:
        experiment = experiment_from(texts)
        members.append(Member(texts, experiment, planned_steps(experiment)))
    return members


def _refuse_jobs(members: Sequence[Member], words: Sequence[Word]) -> None:
    """Ask SLURM about every kind of job among the members, before anything is written."""
    jobs = {job: member for member in members if (job := job_of(member.experiment.top, member.steps))}
    for job, member in jobs.items():
        if not job.wait and _sweeper(words) != "basic":
            raise Refused(
                f"hydra/sweeper={_sweeper(words)} chooses values by the results of earlier runs, and launcher=slurm "
                "does not wait for them; add launcher.wait=true"
            )
        refuse_job(job, member.experiment.name)


def _sweeper(words: Sequence[Word]) -> str:
    composition = compose([word for word in words if not word.is_sweep], is_whole=False)
    return composition.choices.get("hydra/sweeper") or "basic"


def _combinations(words: Sequence[Word]) -> list[tuple[str, ...]]:
    """Return the overrides of each member, as Hydra's own sweeper will expand them.

    Another sweeper chooses its values as it goes; then the words without the swept ones are checked.
    """
    composition = compose([word for word in words if not word.is_sweep], is_whole=False)
    typed = {word.key for word in words}
    fixed = [f"{key}={value}" for key, value in composition.sweep_params.items() if key not in typed]
    every = words_of([*fixed, *(word.text for word in words)])
    if composition.choices.get("hydra/sweeper", "basic") != "basic":
        return [tuple(word.text for word in every if not word.is_sweep)]
    parsed = OverridesParser.create().parse_overrides([word.text for word in every])
    batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [tuple(texts) for batch in batches for texts in batch]


def _sweep(words: Sequence[Word]) -> ExitCode:
    plain = {word.key for word in words if word.is_plain and not word.is_group}
    rows: list[dict[str, Any]] = []
    codes: list[ExitCode] = []
    folders: list[Path] = []

    def one_member(config: DictConfig) -> float | None:
        """Run a member and return its objective; a failure is recorded, for the others to go on."""
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        folders.append(folder)
        texts = [_as_typed(text, plain) for text in hydra.overrides.task]
        summary: dict[str, Any] = {}
        reason, job = "", None
        try:
            experiment = experiment_from(texts)
            code, summary, job = perform(start_run(experiment, planned_steps(experiment), folder))
        except R1ExpError as error:
            code, reason = error.exit_code, str(error)
        codes.append(code)
        row = {"member": folder.name, "overrides": texts, "exit_code": int(code), "reason": reason}
        rows.append(row | ({} if job is None else {"job_id": job}) | summary)
        write_json(folder.parent / SWEEP, rows)
        done = headline(summary, folder) if summary else f"job {job}"
        _say(f"member {folder.name} {' '.join(texts)}: {reason or done}")
        if code in (ExitCode.INTERRUPTED, ExitCode.PREEMPTED) and job is None:
            raise KeyboardInterrupt  # Hydra takes every other exception for the failure of one member
        objective = summary.get("objective")
        return math.nan if objective is None else float(objective)

    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    hydra.multirun("config", one_member, _for_sweeper(words), with_log_configuration=False)
    if any("job_id" in row for row in rows):
        _say(f"`r1exp sweep status {shlex.quote(str(folders[0].parent))}` says how they are")
    elif any(code == ExitCode.DONE for code in codes):
        _say(sweep_report(folders[0].parent))
    return max(codes, default=ExitCode.DONE)


def _for_sweeper(words: Sequence[Word]) -> list[str]:
    """Return the words as the sweeper needs them: plain, so that a typed key replaces the sweep file's."""
    known = flat(_groups_alone(words).values)
    return [
        word.text if word.is_group or not word.is_plain or word.key in known else f"++{word.text}"
        for word in words
    ]


def _as_typed(text: str, plain: set[str]) -> str:
    stripped = text.removeprefix("++")
    return stripped if stripped.partition("=")[0] in plain else text


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
