"""Checks the composed rewards: the verb `check`, and a shorter check before every step that uses rewards."""

from collections.abc import Sequence
from pathlib import Path

from r1exp.config.compose import search_path_of, session
from r1exp.config.experiment import experiment_from
from r1exp.errors import ExitCode, Refused
from r1exp.plan.batch import Batch, RlBatch
from r1exp.plan.references import names_in
from r1exp.plan.steps import planned_steps
from r1exp.rewards.check import Report, check
from r1exp.stage.config import StepConfig

_NUM_PROBLEMS = 8  # problems that the verb checks
_NUM_PROBLEMS_BEFORE_STEP = 2  # problems that are checked before a step


def check_rewards(arguments: Sequence[str], config_dirs: Sequence[Path]) -> tuple[str, ExitCode]:
    """Check the rewards of every step of a command line; return the tables and the exit code.

    Raises:
        Refused: the command line cannot be composed, or has no rewards.
    """
    folders, arguments = search_path_of(arguments)
    with session(config_dirs, folders):
        steps = [
            step for step in planned_steps(experiment_from(arguments)) if step.config.rewards is not None
        ]
        if not steps:
            raise Refused("no step of this command line has rewards; choose some: rewards=graded")
        tables, reports = [], []
        for step in steps:
            if names_in(step.config.model_dump(mode="json")):
                tables.append(f"{step.name}\ndepends on an earlier step: checked before this step starts\n")
                continue
            report = report_of(step.config, step.batch, _NUM_PROBLEMS)
            tables.append(f"{step.name}\n{report.text()}\n")
            reports.append(report)
    return "\n".join(tables), ExitCode.DONE if all(report.ok for report in reports) else ExitCode.REFUSED


def report_of(
    config: StepConfig, batch: Batch | None, num_problems: int = _NUM_PROBLEMS_BEFORE_STEP
) -> Report:
    """Check the rewards of one step on its first problems; every artifact it refers to must exist."""
    assert config.rewards is not None
    rows = batch.completions_per_generation if isinstance(batch, RlBatch) else 1
    return check(
        config.rewards,
        config.prompt.style,
        config.dataset.first("train", num_problems),
        rows_per_batch=rows,
    )
