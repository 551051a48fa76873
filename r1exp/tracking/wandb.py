"""One W&B run. The only file that imports wandb.

Offline runs lie in the given folder and are sent later by `wandb sync`.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import CommError

from r1exp.errors import StepFailed
from r1exp.tracking.settings import WandbTracking, resolved_mode

PATIENCE = 30.0  # seconds to wait for the server


class WandbRun:
    """A step, or a whole run, in W&B."""

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
        """Open the run, or go on with it if `identity` is known. Never asks, and never waits for long.

        Args:
            settings: Project, entity, mode and tags.
            identity: W&B id; the same id continues the same run.
            name: Shown in the list of runs.
            group: Shared by all steps of one run.
            job_type: What kind of work it is, e.g. rl.
            config: The resolved configuration.
            folder: `wandb/` is made inside it.

        Raises:
            Refused: online is asked for, and there is no key.
            StepFailed: online is asked for, and the server does not answer or does not take the key.
        """
        self._is_gone = False
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
                init_timeout=PATIENCE,
            ),
        }
        try:
            self._run = wandb.init(mode=mode, **options)
        except CommError as error:
            wandb.teardown()  # its service still holds the id
            reason = str(error).partition("\n")[0]
            if settings.mode == "online":
                raise StepFailed(
                    f"W&B cannot be reached or does not take the key ({reason}); type tracking.mode=offline and send "
                    "the files later with `wandb sync`, or tracking.mode=auto to do so whenever this happens"
                ) from error
            sys.stderr.write(f"W&B: {reason}; its files stay in {folder / 'wandb'} until `wandb sync`\n")
            self._run = wandb.init(mode="offline", **options)

    @property
    def id(self) -> str:
        """The W&B id."""
        return str(self._run.id)

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """Log a row at an optimizer step."""
        with self._outliving_its_process():
            self._run.log(dict(row), step=step)

    def set_summary(self, values: Mapping[str, Any]) -> None:
        """Put values into the run's summary."""
        with self._outliving_its_process():
            self._run.summary.update(dict(values))

    def finish(self, exit_code: int = 0) -> None:
        """Close the run and wait until its file is whole; a non-zero code marks it as failed."""
        with self._outliving_its_process():
            self._run.finish(exit_code=exit_code)
        with self._outliving_its_process():
            wandb.teardown()  # `finish` returns while W&B's own process still writes

    @contextmanager
    def _outliving_its_process(self) -> Iterator[None]:
        """Go on where W&B's own process is gone: SLURM's preemption ends it while a checkpoint is still to be saved."""
        try:
            yield
        except ConnectionError as error:
            if not self._is_gone:
                sys.stderr.write(f"W&B: its process is gone ({error}); metrics.jsonl has every row\n")
            self._is_gone = True
