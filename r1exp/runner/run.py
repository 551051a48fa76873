"""Run a plan to its end: each step leased, found in the store or worked on, and written down.

<run>/manifest.json  steps/<nn>-<name>/  summary.json  report.md
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from r1exp import __version__
from r1exp.config.assets import LAUNCHERS
from r1exp.config.targets import flat
from r1exp.errors import ExitCode, Interrupted, Preempted, R1ExpError, StepFailed
from r1exp.files import hash_of, link_tree, read_json, write_text
from r1exp.launcher.command import launch_of
from r1exp.model.locate import locate
from r1exp.model.tiny import build_tiny
from r1exp.plan.references import resolved
from r1exp.plan.run_plan import FrozenPlan, FrozenStep
from r1exp.plan.steps import BASE
from r1exp.report.summary import accuracies, summarize, write_report
from r1exp.runner.attempt import Attempt
from r1exp.runner.process import run_process
from r1exp.runner.progress import Progress
from r1exp.runner.reward_check import report_of
from r1exp.runner.signals import Listener, listening
from r1exp.runner.store import StepStore
from r1exp.serving.session import Server, serving
from r1exp.serving.step_server import beside_server
from r1exp.stage.config import StepConfig
from r1exp.stage.step import Step, folder_name
from r1exp.step.checkpoints import last_checkpoint, remove_incomplete
from r1exp.step.status import EXIT_CODES, Status, read_status, state_of
from r1exp.tracking.settings import WandbTracking


class Run:
    """One run directory and the steps it holds."""

    def __init__(self, plan: FrozenPlan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.id = folder.resolve().name
        self.store = StepStore(Path(plan.top.paths.store))
        self._listener = Listener()

    def carry_out(self) -> tuple[ExitCode, dict[str, Any]]:
        """Run every step in order; return the exit code and the summary. Never leaves a step `running`."""
        code = ExitCode.DONE
        reason = ""
        with listening() as self._listener:
            for step in self.plan.steps:
                try:
                    if self._listener.request is not None:  # it came as the step before was done
                        raise self._listener.request.error()
                    status = self._step(step)
                except (Interrupted, Preempted) as error:
                    code, reason = error.exit_code, str(error)
                    break
                if status.state != "done":
                    code = EXIT_CODES[status.state]
                    reason = status.reason or status.state
                    break
        summary = summarize(self.plan, self.folder)
        write_report(summary, self.folder)
        self._track(summary, code)
        if code != ExitCode.DONE:
            _say(f"{self.folder}: {reason}")
        return code, summary

    def _track(self, summary: dict[str, Any], code: ExitCode) -> None:
        """Put the run's accuracies into a W&B run of its own, in the group of its steps."""
        settings = self.plan.top.tracking
        if not isinstance(settings, WandbTracking):
            return
        from r1exp.tracking.wandb import WandbRun  # wandb takes a second to import: only here

        run = WandbRun(
            settings,
            identity=hash_of([self.id, "run"]),
            name=self.plan.name,
            group=self.id,
            job_type="run",
            config=self.plan.top.model_dump(mode="json"),
            folder=self.folder,
        )
        measured = flat(accuracies(summary))
        run.set_summary(
            {key.replace(".", "/"): value for key, value in measured.items()} | {"state": summary["state"]}
        )
        run.finish(int(code))

    def folder_of(self, step: FrozenStep) -> Path:
        """Return the folder of a step."""
        return self.folder / "steps" / folder_name(step.index, step.name)

    def _step(self, step: FrozenStep) -> Status:
        folder = self.folder_of(step)
        with self.store.lease(
            step.key, on_wait=lambda: _say(f"{step.name}: waiting, another run works on this step")
        ):
            found = self._finished(step, folder)
            if found is not None:
                return found
            return self._work(step, folder)

    def _finished(self, step: FrozenStep, folder: Path) -> Status | None:
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
        _say(f"[{step.index}/{len(self.plan.steps)}] {step.name}: done before, by {reused.reused_from}")
        return reused

    @staticmethod
    def _origin(stored: Path) -> str:
        return str(read_json(stored / "step.json")["run_id"])

    def _work(self, step: FrozenStep, folder: Path) -> Status:
        folder.mkdir(parents=True, exist_ok=True)
        self.store.take_checkpoints(step.key, folder)
        self.store.note_workplace(step.key, folder)
        remove_incomplete(folder)
        attempt = Attempt(folder)
        frozen = self._frozen(step)
        frozen.write(folder)
        Status(state="running").write(folder)
        title = f"[{step.index}/{len(self.plan.steps)}] {step.name}"
        checkpoint = last_checkpoint(folder)
        _say(f"{title}: begins{f' from {checkpoint.name}' if checkpoint else ''}")
        begun = time.monotonic()
        unpayable = self._unpayable(step, folder)
        if unpayable is not None:
            unpayable.write(folder)
            return unpayable
        progress = Progress(title, folder / "metrics.jsonl", step.batch.num_steps if step.batch else None)
        try:
            with serving(frozen, folder) as server, self._savable(step, folder):
                if server is not None:
                    frozen.model_copy(update={"server": server.url}).write(folder)
                launch = beside_server(
                    launch_of(step.config.launcher, folder, LAUNCHERS), step.config, step.device
                )
                code = run_process(launch, folder, self._follower(progress, server))
            trouble = None
        except (Interrupted, Preempted, StepFailed) as error:  # the last: the server
            code, trouble = int(error.exit_code), error
        finally:
            progress.close()
        status = self._final_status(folder, attempt, code, time.monotonic() - begun, trouble)
        status.write(folder)
        if isinstance(trouble, Interrupted | Preempted):
            raise trouble
        if status.state == "done":
            self.store.publish(step.key, folder)
            _say(f"{title}: done in {status.seconds:.0f} s{_headline(folder)}")
        return status

    def _savable(self, step: FrozenStep, folder: Path) -> AbstractContextManager[None]:
        """Return a context in which a signal lets the step save first, if it has anything to save."""
        return nullcontext() if step.batch is None else self._listener.training(folder)

    def _follower(self, progress: Progress, server: Server | None) -> Callable[[], None]:
        def follow() -> None:
            self._listener.look()
            if server is not None:
                server.watch()
            progress.follow()

        return follow

    def _unpayable(self, step: FrozenStep, folder: Path) -> Status | None:
        """Check the rewards of an RL step on a few problems; return its status if they must not be paid."""
        if step.config.rewards is None:
            return None
        report = report_of(self._config_of(step), step.batch)
        write_text(folder / "check.txt", report.text() + "\n")
        if report.ok:
            return None
        reason = f"the rewards failed their check: {report.failures[0]}; `r1exp check` shows the whole table"
        return Status(state="failed", reason=reason)

    def _frozen(self, step: FrozenStep) -> Step:
        return Step(
            name=step.name,
            index=step.index,
            run_id=self.id,
            run_name=self.plan.name,
            key=step.key,
            data=step.data,
            config=self._config_of(step),
            device=step.device,
            world_size=step.config.launcher.num_processes,
            trainer_args=step.trainer_args,
            model_path=str(self._model_of(step)),
        )

    def _config_of(self, step: FrozenStep) -> StepConfig:
        """Return the step's settings with every `artifact:NAME` replaced by the folder of that artifact."""

        def find(name: str) -> str:
            return str((self.folder_of(self.plan.step_named(name)) / "artifact").resolve())

        values = resolved(step.config.model_dump(mode="json"), find)
        return StepConfig.model_validate_json(json.dumps(values), strict=True)

    def _model_of(self, step: FrozenStep) -> Path | str:
        """Return where the step's model is loaded from; a tiny one is built now if need be."""
        if step.model_from != BASE:
            return (self.folder_of(self.plan.step_named(step.model_from)) / "artifact").resolve()
        model = step.config.model
        place = locate(model)
        if place is not None:
            return place.resolve() if isinstance(place, Path) else place
        identity = hash_of([model.model_dump(mode="json", include={"shape", "init_seed"}), __version__])
        folder = Path(self.plan.top.paths.store).resolve() / "models" / f"tiny-{identity}"
        with self.store.lease(folder.name, on_wait=lambda: None):
            return folder if folder.is_dir() else build_tiny(model, folder)

    @staticmethod
    def _final_status(
        folder: Path, attempt: Attempt, code: int, seconds: float, interruption: R1ExpError | None
    ) -> Status:
        status = read_status(folder) or Status(state="running")
        if interruption is not None:
            status = status.model_copy(update={"state": state_of(interruption), "reason": str(interruption)})
        elif status.state == "running" or (status.state in ("failed", "done") and code != 0):
            status = attempt.explain(status, code)
        return status.model_copy(update={"seconds": round(seconds, 3)})


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
