"""Which runs are one SLURM job, and what the plan shows of it."""

from collections.abc import Callable

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import Refused
from r1exp.launcher.slurm import Slurm
from r1exp.plan.show import plan_text
from r1exp.plan.slurm_job import job_of
from r1exp.plan.steps import planned_steps

ComposeLine = Callable[..., Experiment]
SERVED = ["stage=rl", "algorithm=grpo", "rollout=vllm_server", "launcher=slurm", "launcher.gpus_per_node=4"]
SERVED += ["launcher.nodes=2", "launcher.server_nodes=1", "evaluation.before=false", "evaluation.after=false"]


def test_rl_with_a_server_on_a_node_of_its_own_asks_for_that_node_and_starts_the_server_there(
    compose_line: ComposeLine,
) -> None:
    experiment = compose_line(*SERVED)
    steps = planned_steps(experiment)
    text = plan_text(experiment, steps)
    assert "#SBATCH --nodes=3\n" in text.replace("  #", "#")
    assert (
        "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --mpi=none --wait=0 --gpus-per-node=4 --relative=0"
        in text
    )
    assert '--weight-transfer-config \'{"backend": "nccl"}\'' in text
    command = steps[0].config.launcher.server_command("PYTHON")
    assert command[:-1] == [
        "srun", "--nodes=1", "--ntasks=1", "--ntasks-per-node=1", "--mpi=none", "--wait=0", "--gpus-per-node=4",
        "--relative=2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(
            ["launcher=slurm", "launcher.server_nodes=1"],
            "add rollout=vllm_server",
            id="a node for no server",
        ),
        pytest.param(
            ["launcher=slurm", "pipeline.steps.sft.set.launcher.nodes=2"],
            "raise launcher.nodes",
            id="a step too large",
        ),
    ],
)
def test_a_job_that_does_not_fit_its_steps_is_refused(
    words: list[str], message: str, compose_line: ComposeLine
) -> None:
    experiment = compose_line(*words)
    with pytest.raises(Refused, match=message):
        job_of(experiment.run, planned_steps(experiment))


def test_a_run_on_this_machine_is_no_job(compose_line: ComposeLine) -> None:
    experiment = compose_line()
    assert job_of(experiment.run, planned_steps(experiment)) is None
    assert isinstance(compose_line("launcher=slurm").run.launcher, Slurm)
