"""Lets a sweeper plug-in of Hydra, for example Optuna's, choose the values of members by the objectives of earlier ones.

The plug-in proposes batches of overrides to its launcher and receives one result for each. The launcher here runs
them as members of the sweep. A member without an objective (failed, or stopped by a health rule) is reported to the
plug-in as failed, and the sweep goes on.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from r1exp.config.compose import as_choices
from r1exp.errors import Interrupted, Refused, StepFailed
from r1exp.plan.members import Command
from r1exp.report.objectives import DIRECTIONS, Direction, values_of
from r1exp.report.sweep import why_without_objective
from r1exp.runner.members import MemberRuns, Task

# What plug-ins raise for settings or values that they cannot use: they have no exception class of their own.
_PLUGIN_ERRORS = (
    HydraException,
    OmegaConfBaseException,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


def directions_of(command: Command, objectives: Sequence[str]) -> list[Direction]:
    """Return whether each objective is maximized or minimized.

    Raises:
        Refused: `hydra.sweeper.direction` says something else, or the sweeper takes one objective only.
    """
    wanted = [DIRECTIONS[name] for name in objectives]
    sweeper = command.composition.hydra.hydra.sweeper if command.composition.hydra is not None else {}
    given = sweeper.get("direction", "maximize")
    typed = [str(each).rpartition(".")[2] for each in ([given] if isinstance(given, str) else given)]
    shown = f"sweep.objectives=[{','.join(objectives)}]"
    if typed not in (wanted, ["maximize"]):  # "maximize" is the default of conf/hydra/sweeper/optuna.yaml
        better = "; ".join(
            f"{name} is better where it is {'larger' if DIRECTIONS[name] == 'maximize' else 'smaller'}"
            for name in objectives
        )
        raise Refused(
            f"hydra.sweeper.direction={','.join(typed)} does not fit {shown}: {better}; leave hydra.sweeper.direction out"
        )
    if "direction" not in sweeper and wanted != ["maximize"]:
        raise Refused(
            f"{shown}: hydra/sweeper={command.sweeper} maximizes one objective; type sweep.objectives=[accuracy], or hydra/sweeper=optuna"
        )
    return wanted


def run_sweeper(command: Command, members: MemberRuns, objectives: Sequence[str]) -> None:
    """Run the members that the sweeper of a command line proposes, for the objectives that are named.

    Raises:
        Refused: the plug-in cannot use its settings or the values, and no member has started.
        StepFailed: the plug-in ended with an error after that.
        Interrupted: a member was interrupted.
    """
    config = _config(command, members, directions_of(command, objectives))
    context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks())
    try:
        sweeper = Plugins.instance().instantiate_sweeper(
            hydra_context=context, task_function=_unused, config=config
        )
        logging.getLogger("optuna").setLevel(
            logging.WARNING
        )  # it announces on standard error that it created a study
        logging.getLogger("hydra_plugins").setLevel(logging.CRITICAL)  # r1exp reports failed members itself
        inner = getattr(sweeper, "sweeper", sweeper)  # published sweepers wrap one of their own
        inner.launcher = _Members(command, members, objectives)
        sweeper.sweep(arguments=[as_choices(text) for text in command.swept()])
    except _PLUGIN_ERRORS as error:
        cause = error.__cause__ or error
        with suppress(OSError):
            members.folder.rmdir()  # if no member has started
        reason = " ".join(str(cause).strip().splitlines()[:2]) or type(cause).__name__
        text = f"hydra/sweeper={command.sweeper}: {reason}"
        if members.rows:
            raise StepFailed(
                f"{text} (after {len(members.rows)} runs, which are kept in {members.folder})"
            ) from error
        raise Refused(
            f"{text}; see its documentation, and `r1exp --cfg hydra --package hydra.sweeper`"
        ) from error


class _Members(Launcher):
    """Runs the members that a sweeper proposes."""

    def __init__(self, command: Command, members: MemberRuns, objectives: Sequence[str]) -> None:
        self._objectives = objectives
        self._fixed = command.fixed()
        self._members = members

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Do nothing: the members need no context of Hydra's."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of members and return their objectives."""
        tasks = [
            Task(initial_job_idx + position, (*self._fixed, *own), own=tuple(own))
            for position, own in enumerate(job_overrides)
        ]
        if not self._members.run(tasks):
            raise Interrupted(
                "interrupted; the finished runs of the sweep are kept in " + str(self._members.folder)
            )
        return [self._result(task) for task in tasks]

    def _result(self, task: Task) -> JobReturn:
        row = self._members.row(task.number)
        values = None if row is None else values_of(row, self._objectives)
        if values is None:
            reason = "did not start" if row is None else why_without_objective(row)
            return _WithoutObjective(overrides=task.arguments, status=JobStatus.FAILED, _return_value=reason)
        return JobReturn(
            overrides=task.arguments,
            status=JobStatus.COMPLETED,
            _return_value=values[0] if len(values) == 1 else tuple(values),
        )


class _WithoutObjective(JobReturn):
    """The result of a member that failed; unlike Hydra's, it prints nothing when it is read."""

    @property
    def return_value(self) -> Any:
        """Raise the reason."""
        raise StepFailed(str(self._return_value))

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


def _config(command: Command, members: MemberRuns, directions: Sequence[Direction]) -> DictConfig:
    """Return the configuration with Hydra's node as a sweeper reads it."""
    assert command.composition.hydra is not None
    config = command.composition.hydra.copy()
    OmegaConf.set_readonly(config, False)
    OmegaConf.set_readonly(config.hydra, False)
    with open_dict(config):
        config.hydra.mode = RunMode.MULTIRUN
        config.hydra.sweep.dir = str(members.folder)
        if "n_jobs" in config.hydra.sweeper and config.sweep.parallel in ("auto", None):
            config.sweep.parallel = members.parallel
        if "direction" in config.hydra.sweeper:
            config.hydra.sweeper.direction = directions[0] if len(directions) == 1 else list(directions)
        if config.hydra.sweeper.get("params"):
            config.hydra.sweeper.params = None  # passed as arguments, without the keys that were typed
    return config


def _unused(config: Any) -> Any:
    raise AssertionError("members are run by the launcher above")
