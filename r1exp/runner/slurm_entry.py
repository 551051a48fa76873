"""Entry point of a SLURM job: `python -m r1exp.runner.slurm_entry RUN`, the only process of a job not started by srun.

Reads the plan and runs it as on any machine. A job that was preempted, or that is near its time limit, has saved a
checkpoint: it is requeued and continues from there.
"""

import os
import sys
from pathlib import Path

from r1exp.errors import ExitCode, R1ExpError
from r1exp.launcher import slurm_client
from r1exp.plan.run_plan import read_plan
from r1exp.plan.slurm_job import job_of
from r1exp.runner.run import Run
from r1exp.runner.slurm_submit import note_canceled
from r1exp.terminal import say


def main(run: Path) -> ExitCode:
    """Execute the run in this job and return the exit code."""
    try:
        plan = read_plan(run)
        code, _ = Run(plan, run).execute()
        settings = job_of(plan.config, plan.steps)
        if code == ExitCode.PREEMPTED and settings is not None:
            job = slurm_client.this_job()
            if slurm_client.is_being_canceled(job, int(os.environ.get("SLURM_RESTART_COUNT", "0"))):
                say(f"job {job}: canceled")
                note_canceled(run)
            elif settings.requeue:
                _requeue(job)
        return code
    except R1ExpError as error:
        say(f"r1exp: {error}")
        return error.exit_code


def _requeue(job: slurm_client.JobId) -> None:
    """Requeue this job, unless SLURM requeues it itself or a user has cancelled it."""
    known = slurm_client.jobs([job]).get(job)
    if known is not None and known.state == "RUNNING":
        say(f"job {job}: requeued")
        slurm_client.requeue(job)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
