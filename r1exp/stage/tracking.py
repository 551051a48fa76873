"""Opens the trackers of a step, on rank 0."""

from pathlib import Path

from r1exp.distributed import is_main_process
from r1exp.files import hash_of
from r1exp.stage.step import Step
from r1exp.tracking.base import TrackedRun
from r1exp.tracking.trackers import Trackers


def open_trackers(step: Step, folder: Path, known: str | None = None, tracked_until: int = -1) -> Trackers:
    """Open the trackers of a step, or continue the step with the identity `known` of a checkpoint.

    Args:
        step: The step.
        folder: Its folder.
        known: Identity that an interrupted execution of the step was tracked under.
        tracked_until: Last optimizer step that the trackers have a row of.
    """
    assert step.config.stage is not None
    run = TrackedRun(
        identity=known or hash_of([step.run_token or step.run_id, step.name]),
        name=f"{step.run_name}/{step.name}",
        group=step.run_group or step.run_id,
        job_type=step.config.stage.kind,
        config={**step.config.model_dump(mode="json"), "step": step.name, "key": step.key},
        folder=folder,
    )
    return Trackers(step.config.tracking, run if is_main_process() else None, tracked_until)
