"""Writes one W&B run. The only file that imports wandb.

Offline runs are written to the given folder; `wandb sync` uploads them later.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import CommError

from r1exp.errors import StepFailed
from r1exp.terminal import say
from r1exp.tracking.settings import WandbTracking, resolved_mode

INIT_TIMEOUT = 30.0  # seconds to wait for the server


class WandbRun:
    """A run in W&B, which holds one step or a whole run of r1exp."""

    def __init__(
        self,
        settings: WandbTracking,
        *,
        identity: str,
        name: str,
        group: str,
        job_type: str,
        config: Mapping[str, Any],
        folder: Path,
    ) -> None:
        """Start the run, or resume it if `identity` exists. Never prompts, and waits `INIT_TIMEOUT` at most.

        Args:
            settings: Project, entity, mode and tags.
            identity: W&B id; the same id resumes the same run.
            name: Shown in the list of runs.
            group: Shared by all steps of one run.
            job_type: The kind of work, for example rl.
            config: The resolved configuration.
            folder: The folder in which `wandb/` is created.

        Raises:
            Refused: the mode is online, and there is no API key.
            StepFailed: `tracking.mode` is online, and the server does not answer or rejects the key.
        """
        self._has_exited = False
        folder.mkdir(parents=True, exist_ok=True)
        mode = resolved_mode(settings)
        options: dict[str, Any] = {
            "entity": settings.entity,
            "project": settings.project,
            "id": identity,
            "name": name,
            "group": group,
            "job_type": job_type,
            "config": dict(config),
            "tags": list(settings.tags),
            "dir": str(folder),
            "resume": "allow",
            "settings": wandb.Settings(
                console="off",
                silent=True,
                disable_code=True,
                disable_job_creation=True,
                init_timeout=INIT_TIMEOUT,
            ),
        }
        try:
            self._run = wandb.init(mode=mode, **options)
        except CommError as error:
            wandb.teardown()  # W&B's service process still holds the id
            reason = str(error).partition("\n")[0]
            if settings.mode == "online":
                raise StepFailed(
                    f"W&B cannot be reached or rejects the key ({reason}); type tracking.mode=offline and upload "
                    "the files later with `wandb sync`, or tracking.mode=auto to go offline whenever this happens"
                ) from error
            say(f"W&B: {reason}; its files stay in {folder / 'wandb'} until `wandb sync`")
            self._run = wandb.init(mode="offline", **options)

    @property
    def id(self) -> str:
        """Return the W&B id."""
        return str(self._run.id)

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """Log a row at an optimizer step."""
        with self._ignoring_service_exit():
            self._run.log(dict(row), step=step)

    def set_summary(self, values: Mapping[str, Any]) -> None:
        """Write values to the summary of the W&B run."""
        with self._ignoring_service_exit():
            self._run.summary.update(dict(values))

    def finish(self, exit_code: int = 0) -> None:
        """Finish the run and wait until its file is complete; a non-zero code marks the run as failed."""
        with self._ignoring_service_exit():
            self._run.finish(exit_code=exit_code)
        with self._ignoring_service_exit():
            wandb.teardown()  # `finish` returns while W&B's service process still writes

    @contextmanager
    def _ignoring_service_exit(self) -> Iterator[None]:
        """Ignore the exit of W&B's service process.

        SLURM's preemption terminates it while the checkpoint is still to be saved.
        """
        try:
            yield
        except ConnectionError as error:
            if not self._has_exited:
                say(f"W&B: its service process has exited ({error}); metrics.jsonl has every row")
            self._has_exited = True
