"""Runs that are SLURM jobs, and what the plan shows of the job."""

from collections.abc import Callable

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.launcher.slurm import Slurm
from r1exp.plan.full import full_text
from r1exp.plan.slurm_job import job_of
from r1exp.plan.steps import planned_steps

ComposeLine = Callable[..., Experiment]
SERVED = ["stage=rl", "algorithm=grpo", "rollout=vllm_server", "launcher=slurm", "launcher.gpus_per_node=4"]
SERVED += ["launcher.nodes=2", "launcher.server_nodes=1", "evaluation.before=false", "evaluation.after=false"]


def test_a_job_with_a_server_node_requests_it_and_starts_the_server_there(
    compose_line: ComposeLine,
) -> None:
    experiment = compose_line(*SERVED)
    steps = planned_steps(experiment)
    text = full_text(experiment, steps)
    commands = " ".join(text.replace("\\\n", " ").split())  # a command is written on several lines
    assert "#SBATCH --nodes=3\n" in text.replace("  #", "#")
    assert (
        "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --mpi=none --cpu-bind=none --wait=0 --gpus-per-node=4 --relative=0"
        in commands
    )
    assert '--weight-transfer-config \'{"backend": "nccl"}\'' in commands
    command = steps[0].config.launcher.server_command("PYTHON")
    assert command[:-1] == [
        "srun", "--nodes=1", "--ntasks=1", "--ntasks-per-node=1", "--mpi=none", "--cpu-bind=none", "--wait=0", "--gpus-per-node=4",
        "--relative=2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(
            ["launcher=slurm", "launcher.server_nodes=1"],
            "add rollout=vllm_server",
            id="a server node without a server",
        ),
        pytest.param(
            ["launcher=slurm", "pipeline.steps.sft.set.launcher.nodes=2"],
            "raise launcher.nodes",
            id="a step larger than the job",
        ),
    ],
)
def test_a_job_that_does_not_fit_its_steps_is_refused(
    overrides: list[str], message: str, compose_line: ComposeLine
) -> None:
    experiment = compose_line(*overrides)
    with pytest.raises(Refused, match=message):
        job_of(experiment.run, planned_steps(experiment))


def test_a_run_on_this_machine_is_not_a_job(compose_line: ComposeLine) -> None:
    experiment = compose_line()
    assert job_of(experiment.run, planned_steps(experiment)) is None
    assert isinstance(compose_line("launcher=slurm").run.launcher, Slurm)
