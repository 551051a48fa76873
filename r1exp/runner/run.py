"""Runs a plan to its end: each step is leased, found in the store or executed, and its status is written.

The files of a run directory are named in `r1exp.paths`.
"""

import json
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from r1exp.config.overrides import flat
from r1exp.errors import ExitCode, Interrupted, Preempted, R1ExpError, StepFailed
from r1exp.files import (
    hash_of,
    is_no_space,
    link_into,
    make_read_only,
    no_space_at,
    read_json,
    read_json_object,
    remove_abandoned,
    whole_folder,
    why_not_written,
    write_text,
)
from r1exp.launcher import scratch
from r1exp.launcher.base import Launch
from r1exp.launcher.fork_client import fork_servers
from r1exp.paths import RunPaths, StepPaths
from r1exp.plan.provenance import refuse_changed_inputs
from r1exp.plan.references import resolved
from r1exp.plan.run_plan import PlanStep, RunPlan, difference
from r1exp.plan.steps import BASE
from r1exp.report.summary import accuracies, summarize, write_report
from r1exp.report.write import write_pages_if_possible
from r1exp.rewards.check_report import Report
from r1exp.runner.attempt import Attempt
from r1exp.runner.base_model import base_model
from r1exp.runner.checkpoint_time import CheckpointTime
from r1exp.runner.disk_space import refuse_full_disk
from r1exp.runner.fork import begin_with_origin
from r1exp.runner.nodes import first_node_of
from r1exp.runner.process import prepare, run_process
from r1exp.runner.progress import StepProgress
from r1exp.runner.reward_check import report_of
from r1exp.runner.signals import Listener, listening
from r1exp.runner.store import StepStore, is_leased
from r1exp.serving import sockets
from r1exp.serving.session import Server, serving
from r1exp.stage.config import StepConfig
from r1exp.stage.sequence_length import with_longest
from r1exp.stage.step import Step, run_of
from r1exp.step.checkpoints import last_checkpoint, pass_over_damaged, remove_incomplete
from r1exp.step.full_disk import is_full, release, reserve
from r1exp.step.status import EXIT_CODES, Status, is_changed, is_finished, read_status, state_of, state_with
from r1exp.terminal import say
from r1exp.tracking.base import TrackedRun
from r1exp.tracking.trackers import Trackers


class WouldWait(Exception):
    """Another process executes the next step of a run that does not wait for it."""


class Run:
    """A run directory and its plan.

    Args:
        plan: The steps.
        folder: The run directory.
        reward_checks: For each step whose rewards have been checked already, the report.
        waits: Whether the run waits for a step that another process executes; else `execute` raises WouldWait.
    """

    def __init__(
        self,
        plan: RunPlan,
        folder: Path,
        reward_checks: Mapping[str, Report] | None = None,
        *,
        waits: bool = True,
    ) -> None:
        self.plan = plan
        self.folder = folder
        self._reward_checks = dict(reward_checks or {})
        self.id = folder.resolve().name
        self.store = StepStore(Path(plan.config.paths.store))
        self._listener = Listener()
        self._nodes = first_node_of(plan, folder)
        self._begun = time.monotonic()
        self._waits = waits

    def execute(self) -> tuple[ExitCode, dict[str, Any]]:
        """Run every step in order; return the exit code and the summary. No step is left `running`."""
        with self._nodes.owning(), fork_servers():
            code, summary = self._execute_steps()
            self._nodes.end(code)
        return code, summary

    def _execute_steps(self) -> tuple[ExitCode, dict[str, Any]]:
        code = ExitCode.DONE
        reason = ""
        started = self._begun = time.monotonic()
        for place in (self.folder, RunPaths(self.folder).steps):
            remove_abandoned(place)
        scratch.remove(self.folder)
        is_scheduled = self.plan.config.launcher.is_scheduled
        with listening(is_scheduled) as self._listener:
            for step in self.plan.steps:
                try:
                    if self._listener.request is not None:  # received when the step before was already done
                        raise self._listener.request.error()
                    status = self._step(step) if step.runs else self._taken(step)
                except R1ExpError as error:
                    code, reason = error.exit_code, str(error)
                    break
                except OSError as error:  # also the status of the step cannot be written
                    code, reason = ExitCode.FAILED, why_not_written(error, self.folder)
                    break
                if status is not None and status.state != "done":
                    code = EXIT_CODES[status.state]
                    reason = status.reason or status.state
                    break
        summary = summarize(self.plan, self.folder, elapsed=time.monotonic() - started)
        if code != ExitCode.DONE and summary["state"] == "planned":  # ended while it waited for another run
            summary |= {"state": state_with(code), "reason": reason}
        try:
            write_report(summary, self.folder)
        except OSError as error:
            say(f"no report: {why_not_written(error, self.folder)}")
            code = max(code, ExitCode.FAILED)
        else:
            write_pages_if_possible(self.folder)
        if code not in (ExitCode.INTERRUPTED, ExitCode.PREEMPTED):  # else it continues, and W&B takes seconds
            self._track(summary, code)
        if code != ExitCode.DONE:
            say(f"{self.folder}: {reason}")
        return code, summary

    def _track(self, summary: dict[str, Any], code: ExitCode) -> None:
        """Track the run's accuracies as a run of their own, in the group of its steps."""
        measured = flat(accuracies(summary))
        values = {key.replace(".", "/"): value for key, value in measured.items()}
        with scratch.own_scratch(self.folder):
            trackers = Trackers(self.plan.config.tracking, self.tracked())
            trackers.summarize(values | {"state": summary["state"]})
            trackers.finish(code)

    def tracked(self) -> TrackedRun:
        """Return what trackers know about the run as a whole."""
        return TrackedRun(
            identity=hash_of([self._token, "run"]),
            name=self._name,
            group=self._group,
            job_type="run",
            config=self.plan.config.model_dump(mode="json"),
            folder=self.folder,
        )

    @property
    def _sweep(self) -> str | None:
        sweep = RunPaths(self.folder).sweep
        return None if sweep is None else sweep.folder.name

    @property
    def _group(self) -> str:
        return self._sweep or self.id

    @property
    def _name(self) -> str:
        return self.plan.name if self._sweep is None else f"{self.plan.name}/{self.id}"

    @property
    def _token(self) -> str:
        """A hash that differs between any two run directories, also between members 0 of two sweeps."""
        manifest = RunPaths(self.folder).manifest
        created = read_json_object(manifest).get("created", "")
        return hash_of([str(self.folder.resolve()), created])

    def paths_of(self, step: PlanStep) -> StepPaths:
        """Return the paths of a step."""
        return RunPaths(self.folder).step(step.index, step.name)

    def is_complete(self) -> bool:
        """Whether every step that may run is finished, here or in the store, so that only the report is to be written."""
        return all(
            is_finished(self.paths_of(step).folder) or self.store.find(self._slot(step)) is not None
            for step in self.plan.steps
            if step.runs
        )

    def _step(self, step: PlanStep) -> Status:
        folder = self.paths_of(step).folder
        with self.store.lease(self._slot(step), on_wait=lambda: self._on_wait(step)):
            scratch.remove(folder)  # of an execution that was killed, perhaps after the step was done
            sockets.remove(folder)
            return self._finished(step, folder) or self._execute(step, folder)

    def _on_wait(self, step: PlanStep) -> None:
        say(f"{step.name}: waiting for another run that executes this step")
        if not self._waits:
            raise WouldWait

    def _taken(self, step: PlanStep) -> Status | None:
        """Return the status of a step that --from, --until or --only leaves out, if it is finished; else None.

        Raises:
            StepFailed: it is not finished any more, and a step that may run reads it.
        """
        readers = self.plan.readers_of(step.name)
        if not readers and is_leased(self.store.paths.folder, self._slot(step)):
            return None  # another run executes it, and nothing here waits for it
        with self.store.lease(
            self._slot(step), on_wait=lambda: say(f"{step.name}: waiting for another run that executes it")
        ):
            status = self._finished(step, self.paths_of(step).folder)
        if status is not None and status.state == "done":
            return status
        if readers:
            raise StepFailed(
                f"step {step.name}, which {readers[0]} reads, was left out and is not finished any more; type the command with "
                f"--from {step.name}"
            )
        say(f"{self._title(step)}: left out")
        return None

    def _slot(self, step: PlanStep) -> str:
        return self.plan.slot(step, self.folder)

    def _finished(self, step: PlanStep, folder: Path) -> Status | None:
        """Return the status of a step that needs no execution: it is done, or a health rule stopped it; else None."""
        status = read_status(folder) if folder.is_dir() else None
        if status is not None and status.state == "done":
            if is_changed(folder):
                raise StepFailed(
                    f"{StepPaths(folder).artifact} was changed after the step had finished; to compute it again, remove "
                    f"{folder}"
                )
            self.store.publish(self._slot(step), folder)  # in case it was killed before it did
            return status
        if status is not None and status.state == "stopped":
            return self._stays_stopped(step, status)
        stopped = self.store.stopped(self._slot(step))
        if stopped is not None:
            stopped.write(folder)
            return self._stays_stopped(step, stopped)
        stored = self.store.find(self._slot(step)) or self.store.find_unpublished(self._slot(step))
        if stored is None and self._may_differ(step):
            stored = self.store.find_other(step.key)
        return None if stored is None else self._reused(step, stored, folder)

    def _reused(self, step: PlanStep, stored: Path, folder: Path) -> Status:
        """Make `folder` a copy of a finished step, instead of what it had of its own, and return its status."""
        original = read_status(stored)
        assert original is not None
        origin = original.reused_from or run_of(stored)
        # `seconds` counts the time of this run, which spent none on the step.
        differs = (
            None if stored.name == self._slot(step) else difference(original.numerics or {}, step.numerics)
        )
        reused = original.model_copy(
            update={
                "other_numerics": differs,
                "reused_from": origin,
                "seconds": 0.0,
                "original_seconds": original.original_seconds or original.seconds,
            }
        )
        with whole_folder(folder, replaces=True) as unfinished:
            link_into(stored, unfinished, without=StepPaths(stored).not_shared)
            reused.write(unfinished)
        note = (
            "" if differs is None else f", made with other numerics ({differs}): its last digits may differ"
        )
        say(f"{self._title(step)}: reused from {origin}{note}")
        return reused

    def _may_differ(self, step: PlanStep) -> bool:
        """Whether a step with other numerics may be reused: not where it is compared with another one."""
        assert step.config.stage is not None
        return not self.plan.is_compared and step.config.stage.makes != "scores"

    def _stays_stopped(self, step: PlanStep, status: Status) -> Status:
        """Return the status of a step that a health rule stopped: the same settings would be stopped again."""
        say(
            f"{self._title(step)}: was stopped by a health rule, and the same settings would be stopped again; change a "
            "setting, or the rule (health.rules.NAME.action=warn)"
        )
        return status

    def _title(self, step: PlanStep) -> str:
        return f"[{step.index}/{len(self.plan.steps)}] {step.name}"

    def _execute(self, step: PlanStep, folder: Path) -> Status:
        """Execute a step and write its final status, also after an error or a signal."""
        with self._listener.interruptible(False):
            return self._executed(step, folder)

    def _executed(self, step: PlanStep, folder: Path) -> Status:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self.store.take_over(self._slot(step), folder)
            for message in pass_over_damaged(folder):
                say(f"{self._title(step)}: {message}")
            if step.fork is not None:
                begin_with_origin(self.folder, folder)
            refuse_full_disk(step, folder)
        except R1ExpError as refused:
            with suppress(OSError):
                Status(state=state_of(refused), reason=str(refused)).write(folder)
            raise
        attempt = Attempt(folder, step.config.launcher)
        reserve(folder)
        Status(state="running").write(folder)
        checkpoint = last_checkpoint(folder)
        say(f"{self._title(step)}: starts{f' from {checkpoint.name}' if checkpoint else ''}")
        started = time.monotonic()
        error: R1ExpError | None = None
        code = int(ExitCode.FAILED)
        try:
            with self._listener.interruptible():
                prepare(self._launch(step, folder))
                frozen = self._frozen(step)
                frozen.write(folder)
                failure = self._reward_check_failure(step, folder)
                if failure is not None:
                    release(folder)
                    failure.write(folder)
                    return failure
                self._refuse_changed_inputs(step)
            code = self._run_processes(step, frozen, folder, attempt)
            self._refuse_changed_inputs(step)
        except R1ExpError as raised:
            error = raised
        except OSError as raised:
            error = StepFailed(why_not_written(raised, folder))
        except Exception as raised:  # noqa: BLE001 - of foreign code in the reward check, or an error of r1exp's own
            say(traceback.format_exc(), end="")
            error = StepFailed(f"{type(raised).__name__}: {raised}")
        full = is_full(folder)
        release(folder)
        status = self._final_status(folder, attempt, code, time.monotonic() - started, error)
        if status.state == "failed":
            status = self._with_full_disk(folder, status, full)
        if status.state == "done":
            variant = self.plan.variant(step, self.folder)
            status = status.model_copy(update={"variant": variant, "numerics": step.numerics})
        status.write(folder)
        if isinstance(error, Interrupted | Preempted):
            raise error
        if status.state == "done":
            make_read_only(StepPaths(folder).artifact)
            self.store.publish(self._slot(step), folder)
            say(f"{self._title(step)}: done in {status.seconds:.0f} s{_headline(folder)}")
        return status

    @staticmethod
    def _with_full_disk(folder: Path, status: Status, is_full: bool) -> Status:
        """Return the status of a step that failed; where the disk is full it says so, and what is half written is deleted."""
        is_said = is_no_space(status.reason or "")
        if is_said or is_full:
            remove_incomplete(folder)  # it takes the room of the next checkpoint
        if is_full and not is_said:
            return status.model_copy(update={"reason": f"{no_space_at(folder)}; {status.reason}"})
        return status

    @staticmethod
    def _refuse_changed_inputs(step: PlanStep) -> None:
        refuse_changed_inputs(step.config, step.inputs, from_base=step.model_from == BASE)

    def _run_processes(self, step: PlanStep, frozen: Step, folder: Path, attempt: Attempt) -> int:
        """Run the step's processes and its server; return the exit status of the launcher."""
        progress = StepProgress(step.name, step.index, len(self.plan.steps), folder, self._begun)
        self._listener.note = progress.note
        served = frozen.served()
        try:
            with (
                self._listener.running(folder, can_save=step.batch is not None),
                ExitStack() as stack,
            ):
                with self._listener.interruptible():
                    server = stack.enter_context(serving(frozen, folder))
                launch = self._launch(step, folder)
                if server is not None and served is not None:
                    frozen.model_copy(update={"server": server.url}).write(folder)
                    launch = served.beside(launch)
                follow = self._follower(folder, step, progress, server)
                self._nodes.gather(step.config.launcher, follow)

                def has_started(pid: int) -> None:
                    attempt.has_started(pid)
                    self._nodes.start(folder, step.config.launcher)

                return run_process(launch, folder, follow, self._listener.grace, has_started)
        finally:
            self._listener.note = say
            progress.close()

    @staticmethod
    def _launch(step: PlanStep, folder: Path) -> Launch:
        launch = step.config.launcher.launch(folder)
        return replace(launch, can_fork=launch.can_fork and step.config.can_fork)

    def _follower(
        self, folder: Path, step: PlanStep, progress: StepProgress, server: Server | None
    ) -> Callable[[], None]:
        pace = CheckpointTime(folder, step.config.launcher, progress.note)

        def follow() -> None:
            self._listener.check()
            self._nodes.check(folder, step)
            pace.follow()
            if server is not None:
                server.watch()
            progress.follow()

        return follow

    def _reward_check_failure(self, step: PlanStep, folder: Path) -> Status | None:
        """Check the rewards of a step on a few problems; return the failed status if the check fails."""
        if step.config.rewards is None:
            return None
        report = self._reward_checks.get(step.name) or report_of(self._config_of(step), step.batch)
        write_text(StepPaths(folder).reward_check, report.text() + "\n")
        if report.ok:
            return None
        reason = f"the rewards failed their check: {report.failures[0]}; `r1exp check` shows the whole table"
        return Status(state="failed", reason=reason)

    def _frozen(self, step: PlanStep) -> Step:
        frozen = self._as_planned(step)
        return with_longest(frozen) if frozen.config.generates else frozen

    def _as_planned(self, step: PlanStep) -> Step:
        return Step(
            name=step.name,
            index=step.index,
            run_id=self.id,
            run_name=self._name,
            run_group=self._group,
            run_token=self._token,
            key=step.key,
            data=step.data,
            config=self._config_of(step),
            device=step.device,
            world_size=step.config.launcher.num_processes,
            trainer_args=step.trainer_args,
            model_path=str(self._model_of(step)),
            fork=step.fork,
        )

    def _config_of(self, step: PlanStep) -> StepConfig:
        """Return the step's settings with every `artifact:NAME` replaced by the folder of that artifact."""

        def find(name: str) -> str:
            return str(self.paths_of(self.plan.step_named(name)).artifact.resolve())

        values = resolved(step.config.model_dump(mode="json"), find)
        return StepConfig.model_validate_json(json.dumps(values), strict=True)

    def _model_of(self, step: PlanStep) -> Path | str:
        """Return where the step's model is loaded from; makes a model of the store that does not exist yet."""
        if step.model_from != BASE:
            return self.paths_of(self.plan.step_named(step.model_from)).artifact.resolve()
        return base_model(step.config.model, self.store)

    @staticmethod
    def _final_status(
        folder: Path, attempt: Attempt, code: int, seconds: float, error: R1ExpError | None
    ) -> Status:
        status = read_status(folder) or Status(state="running")
        if error is not None:
            status = status.model_copy(update={"state": state_of(error), "reason": str(error)})
        elif status.state in ("running", "damaged") or (status.state in ("failed", "done") and code != 0):
            status = attempt.explain(status, code)
        return status.model_copy(update={"seconds": round(seconds, 3)})


def _headline(folder: Path) -> str:
    scores = StepPaths(folder).results.scores
    if not scores.exists():
        return ""
    parts = [
        f"{name} {100 * score['value']:.1f} % [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"
        for name, score in read_json(scores).get("summary", {}).items()
    ]
    return ": " + ", ".join(parts) if parts else ""
