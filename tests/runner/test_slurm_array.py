"""Members of a sweep as the elements of SLURM arrays: the script, the ids, and what is submitted again. sbatch is a fake."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from r1exp.config.experiment import Experiment
from r1exp.errors import R1ExpError
from r1exp.files import write_text
from r1exp.plan.run_plan import RunPlan
from r1exp.plan.steps import planned_steps, run_plan
from r1exp.runner.slurm_array import submit_members
from r1exp.runner.slurm_submit import job_ids
from r1exp.runner.sweep_status import states_of, sweep_retry

SFT = ["stage=sft", "evaluation.before=false", "evaluation.after=false", "tracking=none", "launcher=slurm"]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put SLURM's commands on the PATH; sbatch numbers its jobs from 1. Returns a function that sets what squeue prints."""
    monkeypatch.chdir(tmp_path)

    def command(name: str, text: str) -> None:
        write_text(tmp_path / "bin" / name, f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    count = tmp_path / "count"
    command("sbatch", f"echo x >> {count}; wc -l < {count}")
    command("scontrol", "echo 'MaxArraySize            = 4'")
    command("squeue", "")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return lambda answer: command("squeue", f"printf '{answer}'")


@pytest.fixture
def plans(tmp_path: Path, compose_line: Callable[..., Experiment]) -> Callable[..., dict[int, RunPlan]]:
    """Return a function that plans members with these numbers."""

    def planned(*numbers: int, **overrides: str) -> dict[int, RunPlan]:
        line = [*SFT, *(f"{key.replace('__', '.')}={value}" for key, value in overrides.items())]
        experiment = compose_line(*line)
        plan = run_plan(experiment, planned_steps(experiment), True)
        for number in numbers:
            plan.write(tmp_path / "sweep" / str(number))
        return dict.fromkeys(numbers, plan)

    return planned


def options(script: Path) -> list[str]:
    return [
        line.removeprefix("#SBATCH ")
        for line in script.read_text().splitlines()
        if line.startswith("#SBATCH")
    ]


@pytest.mark.usefixtures("cluster")
def test_members_are_submitted_at_once(tmp_path: Path, plans: Callable[..., dict[int, RunPlan]]) -> None:
    found = submit_members(tmp_path / "sweep", plans(0, 1, 3), None)
    assert found == {0: "1_0", 1: "1_1", 3: "1_3"}
    assert job_ids(tmp_path / "sweep" / "3") == ("1_3",)
    script = tmp_path / "sweep" / "array-0.sbatch"
    assert "--array=0-1,3" in options(script)
    assert "--output=array.log" in options(script)
    assert script.read_text().endswith(
        f"run={tmp_path}/sweep/$((SLURM_ARRAY_TASK_ID + 0))\n"
        'exec >> "$run/slurm.log" 2>&1\n'
        "export R1EXP_JOB=1\n"
        f"cd {tmp_path} || exit 3\n" + script.read_text().splitlines()[-1] + "\n"
    )
    assert script.read_text().endswith('-m r1exp.runner.slurm_entry "$run"\n')


@pytest.mark.usefixtures("cluster")
def test_a_limit_holds_over_arrays_that_the_cluster_keeps_small(
    tmp_path: Path, plans: Callable[..., dict[int, RunPlan]]
) -> None:
    found = submit_members(tmp_path / "sweep", plans(0, 1, 2, 3, 4, 5, 9), at_once=2)
    assert found == {0: "1_0", 1: "1_1", 2: "1_2", 3: "1_3", 4: "2_0", 5: "2_1", 9: "3_1"}
    first, second, third = (options(tmp_path / "sweep" / f"array-{number}.sbatch") for number in range(3))
    assert "--array=0-3%2" in first
    assert {"--array=0-1%2", "--dependency=afterany:1"} <= set(second)
    assert {"--array=1%2", "--dependency=afterany:2"} <= set(third)
    assert "SLURM_ARRAY_TASK_ID + 8" in (tmp_path / "sweep" / "array-2.sbatch").read_text()


@pytest.mark.usefixtures("cluster")
def test_members_with_other_jobs_get_an_array_of_their_own_and_a_single_one_a_job(
    tmp_path: Path, plans: Callable[..., dict[int, RunPlan]]
) -> None:
    found = submit_members(tmp_path / "sweep", plans(0, 1) | plans(2, launcher__nodes="2"), None)
    assert found == {0: "1_0", 1: "1_1", 2: 2}
    assert (tmp_path / "sweep" / "2" / "job.sbatch").exists()


def test_a_member_whose_job_lives_is_not_submitted_again(
    tmp_path: Path, cluster: Callable[[str], None], plans: Callable[..., dict[int, RunPlan]]
) -> None:
    members = plans(0, 1, 2)
    submit_members(tmp_path / "sweep", members, None)
    cluster("1_0|RUNNING|None\\n1_2|PENDING|JobArrayTaskLimit\\n")
    found = submit_members(tmp_path / "sweep", members, None)
    assert isinstance(found[0], R1ExpError) and "is job 1_0, which is RUNNING" in str(found[0])
    assert isinstance(found[2], R1ExpError)
    assert found[1] == 2
    states = {state.folder.name: (state.state, state.job) for state in states_of(tmp_path / "sweep")}
    assert states == {"0": ("running", "1_0"), "1": ("vanished", 2), "2": ("pending", "1_2")}


@pytest.mark.usefixtures("cluster")
def test_retry_submits_what_is_missing_as_one_array(
    tmp_path: Path, plans: Callable[..., dict[int, RunPlan]], capsys: pytest.CaptureFixture[str]
) -> None:
    submit_members(tmp_path / "sweep", plans(0, 1, 2, sweep__parallel="1"), 1)
    assert sweep_retry(tmp_path / "sweep") == 0
    assert "sweep/1: job 2_1" in capsys.readouterr().out
    assert json.loads((tmp_path / "sweep" / "1" / "job.json").read_text())["ids"] == ["1_1", "2_1"]
    assert "--array=0-2%1" in options(tmp_path / "sweep" / "array-1.sbatch")
