"""Are the composed rewards safe to pay? The verb `check`, and a small one before every RL step."""

from collections.abc import Sequence
from pathlib import Path

from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.errors import ExitCode, Refused
from r1exp.plan.batch import RlBatch
from r1exp.plan.frozen import FrozenStep
from r1exp.plan.steps import planned_steps
from r1exp.rewards.check import Report, check

_ASKED = 8  # problems, when a person asks
_BEFORE_RL = 2  # problems, before a step


def check_rewards(texts: Sequence[str], config_dirs: Sequence[Path]) -> tuple[str, ExitCode]:
    """Check the rewards of every RL step of a command line; return the tables and the exit code.

    Raises:
        Refused: the command line does not compose, or has no rewards.
    """
    with session(config_dirs):
        steps = [step for step in planned_steps(experiment_from(texts)) if step.config.rewards is not None]
        if not steps:
            raise Refused("no step of this command line has rewards; choose some: rewards=graded")
        reports = [(step.name, report_of(step, _ASKED)) for step in steps]
    text = "\n".join(f"{name}\n{report.text()}\n" for name, report in reports)
    return text, ExitCode.DONE if all(report.ok for _, report in reports) else ExitCode.REFUSED


def report_of(step: FrozenStep, num_problems: int = _BEFORE_RL) -> Report:
    """Check the rewards of one RL step on its first problems."""
    config = step.config
    assert config.rewards is not None
    rows = step.batch.completions_per_generation if isinstance(step.batch, RlBatch) else 1
    return check(
        config.rewards,
        config.prompt.style,
        config.dataset.first("train", num_problems),
        rows_per_batch=rows,
    )
