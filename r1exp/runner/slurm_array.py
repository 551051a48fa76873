"""Submits members of a sweep as SLURM arrays: one call of sbatch for all members with the same settings of the job.

<sweep>/array-<n>.sbatch  the script that SLURM reads    <member>/job.json, slurm.log   as of a job of its own

An element has the index of its member, less the first one's where an array would exceed the cluster's MaxArraySize. Each is
requeued, canceled and continued on its own. With a limit of members at once, an array waits for the one before.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

from r1exp.errors import R1ExpError
from r1exp.files import write_text
from r1exp.launcher import slurm_client
from r1exp.launcher.slurm import Elements, Slurm, array_text
from r1exp.launcher.slurm_client import JobId
from r1exp.paths import RunPaths, SweepPaths
from r1exp.plan.run_plan import RunPlan
from r1exp.plan.slurm_job import job_of
from r1exp.runner.slurm_submit import job_ids, note_job, refuse_living, submit_run


def submit_members(
    sweep: Path, plans: Mapping[int, RunPlan], at_once: int | None
) -> dict[int, JobId | R1ExpError]:
    """Submit members and return the job of each, or why it has none.

    Args:
        sweep: Folder of the sweep.
        plans: Member -> its plan, which is in its run directory.
        at_once: Members that may run at once; None: as many as the cluster starts.
    """
    found: dict[int, JobId | R1ExpError] = {}
    paths = SweepPaths(sweep)
    newest = {number: job_ids(paths.member(number))[-1:] for number in plans}
    known = slurm_client.jobs(job for jobs in newest.values() for job in jobs)
    groups: dict[Slurm, list[int]] = {}
    for number, plan in plans.items():
        try:
            refuse_living(paths.member(number), known)
            settings = job_of(plan.config, plan.steps)
            assert settings is not None
        except R1ExpError as error:
            found[number] = error
        else:
            groups.setdefault(settings, []).append(number)
    size = slurm_client.array_size() if groups else 1
    after: JobId | None = None
    for settings, members in groups.items():
        for numbers in _chunks(members, size):
            try:
                own = Elements(sweep.resolve(), tuple(numbers), numbers[0] // size * size, at_once, after)
                submitted = _submit(settings, own, plans)
            except R1ExpError as error:
                found |= dict.fromkeys(numbers, error)
            else:
                found |= submitted
                first = next(iter(submitted.values()))
                after = None if at_once is None else int(str(first).partition("_")[0])
    return found


def _chunks(numbers: Sequence[int], size: int) -> list[list[int]]:
    """Return the members in groups whose indices differ by less than the size of an array."""
    found: dict[int, list[int]] = {}
    for number in sorted(numbers):
        found.setdefault(number // size, []).append(number)
    return list(found.values())


def _submit(settings: Slurm, elements: Elements, plans: Mapping[int, RunPlan]) -> dict[int, JobId]:
    """Submit members as one array, or a single one as a job; return the id of each."""
    paths, numbers = SweepPaths(elements.sweep), elements.numbers
    plan = plans[numbers[0]]
    if len(numbers) == 1 and elements.after is None:
        return {numbers[0]: submit_run(plan, paths.member(numbers[0]))}
    script = next(path for path in map(paths.array_script, count()) if not path.exists())
    write_text(script, array_text(settings, plan.name, Path(plan.working_directory), elements))
    for number in numbers:
        RunPaths(paths.member(number)).summary.unlink(missing_ok=True)  # of an earlier job
    array = slurm_client.submit(script)
    ids: dict[int, JobId] = {number: f"{array}_{number - elements.first}" for number in numbers}
    for number, job in ids.items():
        note_job(paths.member(number), job)
    return ids
