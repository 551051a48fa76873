"""Checks the composed rewards: the verb `check`, and a shorter check before a run that uses rewards."""

from collections.abc import Callable, Sequence
from pathlib import Path

from r1exp.config.compose import search_path_of, session
from r1exp.config.experiment import experiment_from
from r1exp.errors import ExitCode, Refused
from r1exp.plan.batch import Batch, RlBatch
from r1exp.plan.references import names_in
from r1exp.plan.run_plan import PlanStep
from r1exp.plan.steps import planned_steps
from r1exp.rewards.attack.attack import MOST_TOKENS, attack
from r1exp.rewards.attack.report import AttackReport
from r1exp.rewards.check import Report, check
from r1exp.stage.config import StepConfig

_NUM_PROBLEMS = 8  # problems that the verb checks
_NUM_GOLDS = 192  # further problems of which the verb scores only the gold answers
_NUM_READ = 20_000  # problems whose gold answers the verb reads
_SECONDS_OF_ATTACK = 60.0  # of the search for exploits, for each step
_NUM_PROBLEMS_BEFORE_RUN = 2  # problems that are checked before a run


def check_rewards(
    arguments: Sequence[str], config_dirs: Sequence[Path], *, attacks: bool = False
) -> tuple[str, ExitCode]:
    """Check the rewards of every step of a command line; return the tables and the exit code.

    Args:
        arguments: The overrides.
        config_dirs: Folders with config groups of the user's own.
        attacks: Whether to search for exploits too, in rewards that pass the check.

    Raises:
        Refused: the command line cannot be composed, or has no rewards.
    """
    folders, arguments = search_path_of(arguments)
    with session(config_dirs, folders):
        steps = [step for step in planned_steps(experiment_from(arguments)) if _scores_with_rewards(step)]
        if not steps:
            raise Refused("no step of this command line has rewards; choose some: rewards=graded")
        failures, tables = [], []
        for step in steps:
            if depends_on_a_step(step):
                tables.append(f"{step.name}\ndepends on an earlier step: checked before this step starts\n")
                continue
            report = report_of(step.config, step.batch, _NUM_PROBLEMS, _NUM_GOLDS, _NUM_READ)
            failures += [f"{step.name}: FAILED {failure}\n" for failure in report.failures]
            tables.append(f"{step.name}\n{report.text()}\n")
            if attacks and report.ok:
                attacked = attack_on(step.config)
                tables[-1] += f"\n{attacked.text()}\n"
                failures += [f"{step.name}: EXPLOIT {line}\n" for line in attacked.titles()]
    text = "\n".join(["".join(failures), *tables] if failures else tables)
    return text, ExitCode.REFUSED if failures else ExitCode.DONE


def refuse_failing_rewards(
    steps: Sequence[PlanStep], is_done: Callable[[PlanStep], bool]
) -> dict[str, Report]:
    """Check the rewards of the steps of a run before it starts; return the report of each step that was checked.

    Args:
        steps: The steps.
        is_done: Whether a step's result exists already, so that its rewards are not needed.

    Raises:
        Refused: the rewards of a step fail their check.
    """
    reports = {
        step.name: report_of(step.config, step.batch)
        for step in steps
        if _scores_with_rewards(step) and not depends_on_a_step(step) and not is_done(step)
    }
    failures = [f"step {name}: {failure}" for name, report in reports.items() for failure in report.failures]
    if failures:
        more = "; `r1exp check` with the same arguments shows the whole table"
        raise Refused("\n".join(failures) + more)
    return reports


def _scores_with_rewards(step: PlanStep) -> bool:
    """Return whether the rewards of a step score completions; those of an evaluation only judge answers."""
    return (
        step.config.rewards is not None
        and step.config.stage is not None
        and step.config.stage.makes != "scores"
    )


def depends_on_a_step(step: PlanStep) -> bool:
    """Return whether the settings of a step name the artifact of an earlier one."""
    return bool(names_in(step.config.model_dump(mode="json")))


def attack_on(config: StepConfig) -> AttackReport:
    """Search for exploits of the rewards of one step; every artifact it refers to must exist."""
    assert config.rewards is not None
    problems = config.dataset.first("train", _NUM_PROBLEMS)
    return attack(
        config.rewards,
        config.prompt.style,
        problems,
        seconds=_SECONDS_OF_ATTACK,
        most_tokens=config.max_completion_length or MOST_TOKENS,
    )


def report_of(
    config: StepConfig,
    batch: Batch | None,
    num_problems: int = _NUM_PROBLEMS_BEFORE_RUN,
    num_golds: int = 0,
    num_read: int = 0,
) -> Report:
    """Check the rewards of one step on its first problems; every artifact it refers to must exist.

    Args:
        config: Settings of the step.
        batch: Its batch, to estimate the seconds of scoring one.
        num_problems: Problems that are checked.
        num_golds: Further problems of which only the gold answers are scored.
        num_read: Problems whose gold answers are only read.
    """
    assert config.rewards is not None
    rows = batch.completions_per_generation if isinstance(batch, RlBatch) else 1
    problems = config.dataset.first("train", max(num_problems + num_golds, num_read))
    return check(
        config.rewards,
        config.prompt.style,
        problems[:num_problems],
        rows_per_batch=rows,
        more_golds=problems[num_problems : num_problems + num_golds],
        all_golds=problems[:num_read],
    )
