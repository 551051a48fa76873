"""Are the composed rewards safe to pay? The verb `check`, and a small one before every RL step."""

from collections.abc import Sequence
from pathlib import Path

from r1exp.config.compose import session
from r1exp.config.experiment import experiment_from
from r1exp.errors import ExitCode, Refused
from r1exp.plan.batch import Batch, RlBatch
from r1exp.plan.references import names_in
from r1exp.plan.steps import planned_steps
from r1exp.rewards.check import Report, check
from r1exp.stage.config import StepConfig

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
        texts_of, reports = [], []
        for step in steps:
            if names_in(step.config.model_dump(mode="json")):
                texts_of.append(
                    f"{step.name}\nreads what an earlier step makes: checked when its turn comes\n"
                )
                continue
            report = report_of(step.config, step.batch, _ASKED)
            texts_of.append(f"{step.name}\n{report.text()}\n")
            reports.append(report)
    return "\n".join(texts_of), ExitCode.DONE if all(report.ok for report in reports) else ExitCode.REFUSED


def report_of(config: StepConfig, batch: Batch | None, num_problems: int = _BEFORE_RL) -> Report:
    """Check the rewards of one RL step on its first problems; every artifact it names must be there."""
    assert config.rewards is not None
    rows = batch.completions_per_generation if isinstance(batch, RlBatch) else 1
    return check(
        config.rewards,
        config.prompt.style,
        config.dataset.first("train", num_problems),
        rows_per_batch=rows,
    )
