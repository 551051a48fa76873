"""Run a plan to its end: each step leased, found in the store or worked on, and written down.

<run>/manifest.json  steps/<nn>-<name>/  summary.json  report.md
"""

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

from r1exp import __version__
from r1exp.config.assets import LAUNCHERS
from r1exp.config.experiment import Experiment
from r1exp.errors import ExitCode, Interrupted, Refused
from r1exp.files import hash_of, link_tree, read_json, write_json, write_text
from r1exp.launcher.command import launch_of
from r1exp.model.locate import check_hub, locate
from r1exp.model.tiny import build_tiny
from r1exp.pipeline.reach import flat
from r1exp.plan.references import resolved
from r1exp.plan.steps import BASE, PlannedStep, step_named
from r1exp.report.summary import accuracies, summarise, write_report
from r1exp.runner.check import report_of
from r1exp.runner.manifest import manifest
from r1exp.runner.process import run_process
from r1exp.runner.progress import Progress
from r1exp.runner.store import StepStore
from r1exp.step.checkpoints import last_checkpoint, remove_incomplete
from r1exp.step.config import StepConfig
from r1exp.step.frozen import Step, folder_name
from r1exp.step.status import EXIT_CODES, Status, read_status
from r1exp.tracking.settings import WandbTracking, resolved_mode


class Run:
    """One run directory and the steps it holds."""

    def __init__(self, experiment: Experiment, steps: tuple[PlannedStep, ...], folder: Path) -> None:
        self.experiment = experiment
        self.steps = steps
        self.folder = folder
        self.id = folder.resolve().name
        self.store = StepStore(Path(experiment.paths.store))

    def carry_out(self) -> tuple[ExitCode, dict[str, Any]]:
        """Run every step in order; return the exit code and the summary. Never leaves a step `running`."""
        code = ExitCode.DONE
        reason = ""
        with _terminate_as_interrupt():
            for step in self.steps:
                try:
                    status = self._step(step)
                except Interrupted as error:
                    code, reason = error.exit_code, str(error)
                    break
                if status.state != "done":
                    code = EXIT_CODES[status.state]
                    reason = status.reason or status.state
                    break
        summary = summarise(self.experiment, self.steps, self.folder)
        write_report(summary, self.folder)
        self._track(summary, code)
        if code != ExitCode.DONE:
            _say(f"{self.folder}: {reason}")
        return code, summary

    def _track(self, summary: dict[str, Any], code: ExitCode) -> None:
        """Put the run's accuracies into a W&B run of its own, in the group of its steps."""
        settings = self.experiment.top.tracking
        if not isinstance(settings, WandbTracking):
            return
        from r1exp.tracking.wandb import WandbRun  # wandb takes a second to import: only here

        run = WandbRun(
            settings,
            identity=hash_of([self.id, "run"]),
            name=self.experiment.name,
            group=self.id,
            job_type="run",
            config=self.experiment.top.model_dump(mode="json"),
            folder=self.folder,
        )
        measured = flat(accuracies(summary))
        run.set_summary(
            {key.replace(".", "/"): value for key, value in measured.items()} | {"state": summary["state"]}
        )
        run.finish(int(code))

    def folder_of(self, step: PlannedStep) -> Path:
        """Return the folder of a step."""
        return self.folder / "steps" / folder_name(step.index, step.name)

    def _step(self, step: PlannedStep) -> Status:
        folder = self.folder_of(step)
        with self.store.lease(
            step.key, on_wait=lambda: _say(f"{step.name}: waiting, another run works on this step")
        ):
            found = self._finished(step, folder)
            if found is not None:
                return found
            return self._work(step, folder)

    def _finished(self, step: PlannedStep, folder: Path) -> Status | None:
        status = read_status(folder) if folder.is_dir() else None
        if status is not None and status.state == "done":
            return status
        stored = self.store.find(step.key)
        if stored is None or folder.exists():
            return None
        link_tree(stored, folder)
        original = read_status(folder)
        assert original is not None
        reused = original.model_copy(update={"reused_from": original.reused_from or self._origin(stored)})
        reused.write(folder)
        _say(f"[{step.index}/{len(self.steps)}] {step.name}: done before, by {reused.reused_from}")
        return reused

    @staticmethod
    def _origin(stored: Path) -> str:
        return str(read_json(stored / "step.json")["run_id"])

    def _work(self, step: PlannedStep, folder: Path) -> Status:
        folder.mkdir(parents=True, exist_ok=True)
        self.store.take_checkpoints(step.key, folder)
        self.store.note_workplace(step.key, folder)
        remove_incomplete(folder)
        self._frozen(step).write(folder)
        Status(state="running").write(folder)
        title = f"[{step.index}/{len(self.steps)}] {step.name}"
        checkpoint = last_checkpoint(folder)
        _say(f"{title}: begins{f' from {checkpoint.name}' if checkpoint else ''}")
        begun = time.monotonic()
        unpayable = self._unpayable(step, folder)
        if unpayable is not None:
            unpayable.write(folder)
            return unpayable
        progress = Progress(title, folder / "metrics.jsonl", step.batch.num_steps if step.batch else None)
        try:
            code = run_process(launch_of(step.config.launcher, folder, LAUNCHERS), folder, progress.follow)
            interruption = None
        except Interrupted as error:
            code, interruption = int(error.exit_code), error
        finally:
            progress.close()
        status = self._final_status(folder, code, time.monotonic() - begun, interruption)
        status.write(folder)
        if interruption is not None:
            raise interruption
        if status.state == "done":
            self.store.publish(step.key, folder)
            _say(f"{title}: done in {status.seconds:.0f} s{_headline(folder)}")
        return status

    @staticmethod
    def _unpayable(step: PlannedStep, folder: Path) -> Status | None:
        """Check the rewards of an RL step on a few problems; return its status if they must not be paid."""
        if step.config.rewards is None:
            return None
        report = report_of(step)
        write_text(folder / "check.txt", report.text() + "\n")
        if report.ok:
            return None
        reason = f"the rewards failed their check: {report.failures[0]}; `r1exp check` shows the whole table"
        return Status(state="failed", reason=reason)

    def _frozen(self, step: PlannedStep) -> Step:
        return Step(
            name=step.name,
            index=step.index,
            run_id=self.id,
            run_name=self.experiment.name,
            key=step.key,
            data=step.data,
            config=self._config_of(step),
            device=step.device,
            world_size=step.config.launcher.num_processes,
            trainer_args=step.trainer_args,
            model_path=str(self._model_of(step)),
        )

    def _config_of(self, step: PlannedStep) -> StepConfig:
        """Return the step's settings with every `artifact:NAME` replaced by the folder of that artifact."""

        def find(name: str) -> str:
            return str((self.folder_of(step_named(self.steps, name)) / "artifact").resolve())

        values = resolved(step.config.model_dump(mode="json"), find)
        return StepConfig.model_validate_json(json.dumps(values), strict=True)

    def _model_of(self, step: PlannedStep) -> Path | str:
        """Return where the step's model is loaded from; a tiny one is built now if need be."""
        if step.model_from != BASE:
            return (self.folder_of(step_named(self.steps, step.model_from)) / "artifact").resolve()
        model = step.config.model
        place = locate(model)
        if place is not None:
            return place.resolve() if isinstance(place, Path) else place
        identity = hash_of([model.model_dump(mode="json", include={"shape", "init_seed"}), __version__])
        folder = Path(self.experiment.paths.store).resolve() / "models" / f"tiny-{identity}"
        with self.store.lease(folder.name, on_wait=lambda: None):
            return folder if folder.is_dir() else build_tiny(model, folder)

    @staticmethod
    def _final_status(folder: Path, code: int, seconds: float, interruption: Interrupted | None) -> Status:
        status = read_status(folder) or Status(state="running")
        if interruption is not None:
            status = status.model_copy(update={"state": "interrupted", "reason": str(interruption)})
        elif status.state == "running" or (status.state == "done" and code != 0):
            reason = f"the worker ended with exit status {code} and no word; see {folder / 'log.txt'}"
            status = status.model_copy(update={"state": "failed", "reason": reason})
        return status.model_copy(update={"seconds": round(seconds, 3)})


def start_run(experiment: Experiment, steps: tuple[PlannedStep, ...], folder: Path | None = None) -> Run:
    """Make, or reopen, the run directory and write its manifest.

    Args:
        experiment: What is run.
        steps: Its plan.
        folder: The run directory; None: as `paths` says.

    Raises:
        Refused: a folder that cannot be written, or one that holds another experiment.
    """
    _refuse_unreachable(experiment, steps)
    chosen = folder or _run_folder(experiment)
    identity = [step.key for step in steps]
    old = chosen / "manifest.json"
    try:
        if old.exists():
            if read_json(old)["step_keys"] != identity:
                raise Refused(
                    f"{chosen} holds another experiment than the one typed; "
                    "give another paths.run, or type what its manifest.json says"
                )
        else:
            chosen.mkdir(parents=True, exist_ok=True)
            write_json(old, manifest(experiment, steps, chosen.resolve().name))
    except OSError as error:
        raise Refused(
            f"the run directory {chosen} cannot be written ({error.strerror}); set paths.runs=..."
        ) from error
    return Run(experiment, steps, chosen)


def _refuse_unreachable(experiment: Experiment, steps: tuple[PlannedStep, ...]) -> None:
    """Refuse what only the network can tell, before anything is written: W&B's key, a model on the hub."""
    if isinstance(experiment.top.tracking, WandbTracking):
        resolved_mode(experiment.top.tracking)
    for step in steps:
        place = locate(step.config.model) if step.model_from == BASE else None
        if isinstance(place, str):
            check_hub(place, step.config.model.revision)


def _run_folder(experiment: Experiment) -> Path:
    if experiment.paths.run is not None:
        return Path(experiment.paths.run)
    now = datetime.now()
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in experiment.name)
    base = Path(experiment.paths.runs) / f"{now:%Y-%m-%d}"
    folder = base / f"{now:%H-%M-%S}-{safe}"
    number = 1
    while folder.exists():
        number += 1
        folder = base / f"{now:%H-%M-%S}-{safe}-{number}"
    return folder


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Turn SIGTERM and Ctrl-C into `Interrupted` for the block, so that steps end in order."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(
            f"ended by {signal.Signals(number).name}; the same command goes on from the last checkpoint"
        )

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _headline(folder: Path) -> str:
    scores = folder / "artifact" / "scores.json"
    if not scores.exists():
        return ""
    parts = [
        f"{name} {100 * score['value']:.1f} % [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"
        for name, score in read_json(scores)["summary"].items()
    ]
    return ": " + ", ".join(parts)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
