"""Opens and closes the W&B run of a step, on rank 0, if tracking is enabled."""

from pathlib import Path

from r1exp.distributed import is_main_process
from r1exp.errors import ExitCode
from r1exp.files import hash_of
from r1exp.stage.step import Step
from r1exp.tracking.settings import WandbTracking
from r1exp.tracking.wandb import WandbRun


def open_run(step: Step, folder: Path, known: str | None = None) -> WandbRun | None:
    """Open the step's W&B run, or continue the one with the id `known` of a checkpoint."""
    if not isinstance(step.config.tracking, WandbTracking) or not is_main_process():
        return None
    assert step.config.stage is not None
    return WandbRun(
        step.config.tracking,
        identity=known or hash_of([step.run_id, step.name]),
        name=f"{step.run_name}/{step.name}",
        group=step.run_id,
        job_type=step.config.stage.kind,
        config={**step.config.model_dump(mode="json"), "step": step.name, "key": step.key},
        folder=folder,
    )


def close_run(run: WandbRun | None, code: ExitCode) -> str | None:
    """Finish the run and return its id."""
    if run is None:
        return None
    run.finish(int(code))
    return run.id
