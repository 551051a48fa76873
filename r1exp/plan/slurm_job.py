"""Decides whether a run is a SLURM job, and whether one job can run all its steps."""

from collections.abc import Sequence

from r1exp.errors import Refused
from r1exp.launcher.slurm import Slurm
from r1exp.plan.run_plan import PlanStep
from r1exp.stage.config import StepConfig


def job_of(run: StepConfig, steps: Sequence[PlanStep]) -> Slurm | None:
    """Return the launcher of a run that is one SLURM job; None for a run on this machine.

    Raises:
        Refused: a step needs more than the job has, or a node would not be used.
    """
    job: Slurm | None = run.launcher.job
    for step in steps:
        own = step.config.launcher.job
        if own is None:
            continue  # in a job, such a step runs on the first node
        if job is None:
            raise Refused(
                f"step {step.name} uses launcher=slurm, and the run launcher={run.launcher.kind}: a run is one job; "
                "type launcher=slurm for the whole run"
            )
        if (own.nodes, own.gpus_per_node) > (job.nodes, job.gpus_per_node):
            raise Refused(
                f"step {step.name} needs {own.nodes} nodes with {own.gpus_per_node} GPUs, and the run's job has "
                f"{job.nodes} with {job.gpus_per_node}; raise launcher.nodes or launcher.gpus_per_node of the run"
            )
    if job is None:
        return None
    if job.server_nodes and not any(step.served() for step in steps):
        raise Refused(
            "launcher.server_nodes=1 reserves a node for a vLLM server, and no step has one; "
            "add rollout=vllm_server, or set launcher.server_nodes=0"
        )
    return job
