"""Says how long the steps of a plan will take, from steps that have finished on this machine; never a guess.

The step store (`paths.store`) keeps every finished step under its key. A step whose key is there is reused. Otherwise an
earlier step counts as evidence if it did the same work: the same settings but for those that do not change the amount of
work (`_WITHOUT_WORK`). The seconds of a training step are scaled with the optimizer steps, at most fourfold, because
the start of a step is among them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1exp.errors import Refused
from r1exp.files import read_json
from r1exp.paths import StepPaths, StorePaths
from r1exp.plan.run_plan import difference
from r1exp.plan.steps import PlannedStep
from r1exp.stage.config import StepConfig
from r1exp.stage.step import run_of
from r1exp.step.executions import executions
from r1exp.step.status import Status, read_status

_MOST_READ = 200  # finished steps, the newest first
_MOST_SCALED = 4.0  # largest ratio of optimizer steps
# Settings that do not change how much a step computes.
_WITHOUT_WORK = frozenset(
    {"seed", "tracking", "health", "learning_rate", "beta", "temperature", "max_steps", "evaluation"}
)
# Of these settings, the parts that do change it.
_COUNTED_TRAINER_KEYS = frozenset({"num_iterations", "packing", "max_length"})


@dataclass(frozen=True)
class Duration:
    """How long a step takes, and how that is known."""

    seconds: float
    source: str  # run that executed the step, or an earlier step of the same kind
    is_reused: bool = False  # the step itself is in the store, and will not be executed again
    is_scaled: bool = False  # from another number of optimizer steps


@dataclass(frozen=True)
class EarlierStep:
    """A finished step of the store."""

    name: str
    key: str  # without the part for what shifts the last digits
    config: StepConfig
    where: Path  # the file that names the folders in which it was executed
    work: str
    num_steps: int | None  # optimizer steps; None: does not train
    seconds: float
    run: str


class Durations:
    """What the store of a run says.

    Args:
        store: The folder of the store, which need not exist.
        is_compared: The run is a member of a sweep, which reuses no step with other numerics.
        is_elsewhere: The plan is for other hardware, of which the store cannot tell more than what is finished.
    """

    def __init__(self, store: Path, *, is_elsewhere: bool = False, is_compared: bool = False) -> None:
        self._store = StorePaths(store)
        self._steps = self._store.steps
        self._is_elsewhere = is_elsewhere
        self._is_compared = is_compared
        self._earlier: list[EarlierStep] | None = None  # newest first; read at the first question

    def of(self, step: PlannedStep) -> Duration | None:
        """Return how long a step takes; None if no earlier step can tell."""
        for folder in self.reusable(step):
            status = _finished(folder)
            if status is not None:
                return Duration(_seconds(status), _run_of(folder, status), is_reused=True)
        if self._is_elsewhere:
            return None
        number = None if step.batch is None else step.batch.num_steps
        work = _work(step.config, step.device, None if step.batch is None else step.batch.rows_per_device)
        found = [
            earlier
            for earlier in self.earlier()
            if earlier.work == work and _is_near(number, earlier.num_steps)
        ]
        if not found:
            return None
        best = next((earlier for earlier in found if earlier.name == step.name), found[0])
        scale = 1.0 if number is None or best.num_steps is None else number / best.num_steps
        return Duration(best.seconds * scale, best.run, is_scaled=scale != 1.0)

    def notes(self, step: PlannedStep) -> list[str]:
        """Return why a step is not reused as one might expect, or with which difference it is."""
        if (stopped := self._stopped(step)) is not None:
            return [f"{step.name}: a health rule stopped it in {stopped}, and it stays stopped"]
        if _finished(self._steps / step.slot) is not None:
            return []
        for folder in self._others(step):
            status = _finished(folder)
            if status is None:
                continue
            differs = difference(status.numerics or {}, step.numerics)
            if folder in self.reusable(step):
                return [f"{step.name}: reused although it was made with other numerics ({differs})"]
            return [
                f"{step.name}: computed again, because it is compared and {_run_of(folder, status)} made it with other "
                f"numerics ({differs})"
            ]
        return []

    def _stopped(self, step: PlannedStep) -> str | None:
        """Return the run in which a health rule stopped the step, or None."""
        folders = executions(self._store.working_directory(step.slot))
        status = _status(folders[-1]) if folders else None
        stopped = status is not None and status.state == "stopped"
        return _run_of(folders[-1], status) if stopped and status else None

    def _others(self, step: PlannedStep) -> list[Path]:
        return sorted(path for path in self._steps.glob(f"{step.key}-*") if "." not in path.name)

    def reusable(self, step: PlannedStep) -> list[Path]:
        """Return the folders of the store from which a run would take the step, if it is there."""
        exact = self._steps / step.slot
        assert step.config.stage is not None
        if self._is_compared or step.config.stage.makes == "scores":
            return [exact]
        return [exact, *self._others(step)]

    def earlier(self) -> list[EarlierStep]:
        """Return the finished steps of the store, the newest first, at most 200."""
        if self._earlier is None:
            self._earlier = _read(self._store)
        return self._earlier


def _read(store: StorePaths) -> list[EarlierStep]:
    folder = store.steps
    if not folder.is_dir():
        return []
    newest = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    found = []
    for path in newest[:_MOST_READ]:
        status = _finished(path)
        if status is None:
            continue
        try:
            step = read_json(StepPaths(path).step)
            config = StepConfig.model_validate_json(json.dumps(step["config"]), strict=True)
        except (OSError, ValueError, KeyError, Refused):
            continue  # written by another version of r1exp
        arguments = step["trainer_args"]
        found.append(
            EarlierStep(
                name=step["name"],
                key=str(step["key"]),
                config=config,
                where=store.working_directory(path.name),
                work=_work(config, step["device"], arguments.get("per_device_train_batch_size")),
                num_steps=arguments.get("max_steps"),
                seconds=_seconds(status),
                run=_run_of(path, status),
            )
        )
    return found


def _status(folder: Path) -> Status | None:
    return read_status(folder)


def _finished(folder: Path) -> Status | None:
    status = _status(folder)
    return status if status is not None and status.state == "done" else None


def _seconds(status: Status) -> float:
    return status.original_seconds or status.seconds


def _run_of(folder: Path, status: Status) -> str:
    if status.reused_from is not None:
        return status.reused_from
    try:
        return run_of(folder)
    except (OSError, ValueError, KeyError, Refused):
        return folder.name


def _is_near(planned: int | None, earlier: int | None) -> bool:
    if planned is None or earlier is None:
        return planned == earlier
    return 1 / _MOST_SCALED <= planned / earlier <= _MOST_SCALED


def _work(config: StepConfig, device: str, rows_per_device: int | None) -> str:
    """Return a text that is equal for steps that compute as much per optimizer step, or per problem."""
    values: dict[str, Any] = config.model_dump(mode="json")
    kept = {name: value for name, value in values.items() if name not in _WITHOUT_WORK}
    kept["trainer"] = {key: value for key, value in config.trainer.items() if key in _COUNTED_TRAINER_KEYS}
    kept["rewards"] = sorted(reward["kind"] for reward in (values["rewards"] or {}).values())
    kept["model"] = {
        name: value for name, value in values["model"].items() if name not in ("learning_rate", "init_seed")
    }
    if config.algorithm is not None:
        kept["algorithm"] = {name: value for name, value in values["algorithm"].items() if name != "kl"}
    if config.generates and config.online is None:  # an evaluation, or answers that are sampled
        kept["evaluation"] = values["evaluation"]
    if config.validates:
        kept["validation"] = [values["evaluation"], config.max_steps]
    kept["debug"] = {name: value for name, value in values["debug"].items() if name != "max_steps"}
    return json.dumps([kept, device, rows_per_device], sort_keys=True)


def total_seconds(durations: Sequence[Duration | None]) -> float | None:
    """Return the seconds of all steps that will be executed; None if one of them is not known."""
    if any(duration is None for duration in durations):
        return None
    return sum(duration.seconds for duration in durations if duration is not None and not duration.is_reused)


def as_clock(seconds: float) -> str:
    """Return seconds as a person reads them: 0:09, 12:30 or 2:05:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
