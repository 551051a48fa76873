"""The exact text of job scripts and srun commands, for any name of a run, a folder or an option."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from r1exp.assets import CONF
from r1exp.launcher import slurm_client
from r1exp.launcher.slurm import Slurm, job_text, on_server_node
from r1exp.runner.slurm_node import numbered

DEFAULTS = yaml.safe_load((CONF / "launcher" / "slurm.yaml").read_text(encoding="utf-8"))


def slurm(**values: Any) -> Slurm:
    return Slurm.model_validate({**DEFAULTS, "extra": (), "srun": (), "setup": (), **values})


GOLDEN = """\
#!/bin/bash
# Runs one run of r1exp as one SLURM job; filled in from launcher=slurm. `exec` makes Python the process that SLURM signals.
# Source: Slurm 22.05, man sbatch. sbatch is called in the run directory, where the log is written.
#SBATCH --job-name=sweep/beta
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --time=2-0:0:0
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --output=slurm.log
#SBATCH --open-mode=append
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --qos=high
#SBATCH --constraint='a100&(ib|roce)'
#SBATCH --mem=0
#SBATCH --exclusive

export R1EXP_JOB=1
cd /home/me || exit 3
module load cuda/13
exec PYTHON -m r1exp.runner.slurm_entry /home/me/runs/1
"""


def test_the_script_of_a_job_states_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "PYTHON")
    settings = slurm(
        nodes=2, server_nodes=1, gpus_per_node=8, cpus_per_node=64, time="2-0:0:0", partition="gpu", account="lab",
        qos="high", constraint="a100&(ib|roce)", extra=("--mem=0", "--exclusive"), setup=("module load cuda/13",),
    )  # fmt: skip
    text = job_text(settings, "sweep/beta", Path("/home/me"), Path("/home/me/runs/1"))
    assert text == GOLDEN


NASTY = [
    "a b",
    "it's",
    'say "hi"',
    "$HOME",
    "`id`",
    "a\nb",
    "x;y&z|w",
    "ü中",
    "*?[a]",
    "back\\slash",
    "50%j",
    "#no",
]


@pytest.mark.parametrize("name", NASTY, ids=ascii)
def test_the_shell_passes_special_characters_on_unchanged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script is run with a program instead of Python that records its arguments and environment."""
    folder = tmp_path / f"in {name}"
    folder.mkdir()
    python = folder / "python"
    python.write_text(
        '#!/bin/sh\nprintf "%s\\0" "$PWD" "$R1EXP_JOB" "$SET" "$@" > "$OUT"\n', encoding="utf-8"
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    script = tmp_path / "job.sbatch"
    settings = slurm(setup=('export SET="$HOME and more"', "# a comment"), constraint="a b")
    script.write_text(job_text(settings, name, folder, folder / "run" / name), encoding="utf-8")
    subprocess.run(["bash", "-n", str(script)], check=True)
    out = tmp_path / "out"
    subprocess.run(["bash", str(script)], check=True, env={**os.environ, "OUT": str(out), "HOME": "/h"})
    arguments = out.read_text(encoding="utf-8").split("\0")[:-1]
    assert arguments == [
        str(folder),
        "1",
        "/h and more",
        "-m",
        "r1exp.runner.slurm_entry",
        str(folder / "run" / name),
    ]
    directives = [
        line for line in script.read_text(encoding="utf-8").splitlines() if line.startswith("#SBATCH")
    ]
    assert len(directives) == 9  # a line break in a name adds no directive


def test_a_job_whose_working_directory_is_missing_ends_before_it_writes_anything(tmp_path: Path) -> None:
    script = tmp_path / "job.sbatch"
    script.write_text(job_text(slurm(), "x", tmp_path / "gone", tmp_path), encoding="utf-8")
    assert subprocess.run(["bash", str(script)], capture_output=True, check=False).returncode == 3


def test_one_task_per_node_starts_the_ranks_of_that_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "PYTHON")
    monkeypatch.setenv("R1EXP_JOB", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "70123")
    monkeypatch.setenv("SLURMD_NODENAME", "node7")
    settings = slurm(nodes=2, gpus_per_node=4, srun=("--label",), threads_per_process=3)
    launch = settings.launch(Path("run/steps/01 it's"))
    assert launch.arguments == (
        "srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--mpi=none", "--cpu-bind=none", "--wait=0", "--gpus-per-node=4",
        "--kill-on-bad-exit=1", "--label",
        "PYTHON", "-m", "r1exp.runner.slurm_node", "run/steps/01 it's",
        "PYTHON", "-m", "r1exp.launcher.agent", "--config_file", "run/steps/01 it's/accelerate.yaml",
        "--log_dir", "/dev/null",
        "--main_process_ip", "node7", "--main_process_port", "20123", "-m", "r1exp.worker", "run/steps/01 it's",
    )  # fmt: skip
    content = yaml.safe_load(launch.files["accelerate.yaml"])
    assert (content["num_machines"], content["num_processes"], content["use_cpu"]) == (2, 8, False)
    assert (content["distributed_type"], launch.environment["OMP_NUM_THREADS"]) == ("MULTI_GPU", "3")


def test_every_node_passes_its_index_to_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    command = [
        "python",
        "launch",
        "--main_process_port",
        "20123",
        "-m",
        "r1exp.worker",
        "--main_process_port",
    ]
    assert numbered(command) == [*command[:2], "--machine_rank", "1", *command[2:]]
    assert numbered(["python", "launch", "-m", "r1exp.worker"]) == ["python", "launch", "-m", "r1exp.worker"]


def test_ranks_may_run_in_a_container_and_the_server_on_the_node_after_theirs() -> None:
    settings = slurm(
        nodes=2, gpus_per_node=8, server_nodes=1, python="apptainer exec --nv 'my image.sif' python3"
    )
    arguments = settings.launch(Path("s")).arguments
    assert arguments[arguments.index("--relative=0") + 2 :][:8] == (
        "apptainer", "exec", "--nv", "my image.sif", "python3", "-m", "r1exp.runner.slurm_node", "s",
    )  # fmt: skip
    assert on_server_node(settings) == [
        "srun", "--nodes=1", "--ntasks=1", "--ntasks-per-node=1", "--mpi=none", "--cpu-bind=none", "--wait=0", "--gpus-per-node=8",
        "--relative=2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param({}, ("NO", 1, "cpu"), id="one rank"),
        pytest.param({"gpus_per_node": 8}, ("MULTI_GPU", 8, "cuda"), id="one rank per GPU"),
        pytest.param({"processes_per_node": 2}, ("MULTI_GPU", 2, "cpu"), id="ranks on CPUs"),
        pytest.param(
            {"nodes": 2, "strategy": "zero3"}, ("DEEPSPEED", 2, "cpu"), id="ZeRO over several nodes"
        ),
        pytest.param({"nodes": 2, "strategy": "fsdp2"}, ("FSDP", 2, "cpu"), id="FSDP2 over several nodes"),
    ],
)
def test_the_number_of_ranks_follows_from_nodes_and_gpus(
    values: dict[str, Any], expected: tuple[str, int, str]
) -> None:
    settings = slurm(**values)
    files = settings.launch(Path("s")).files
    content = yaml.safe_load(files["accelerate.yaml"])
    assert (content["distributed_type"], content["num_processes"], settings.resolved_device()) == expected
    if settings.zero_stage:
        assert content["deepspeed_config"]["deepspeed_multinode_launcher"] == "standard"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"time": "two hours"}, "is not a time limit of SLURM", id="time"),
        pytest.param({"extra": ("mem=0",)}, "is not an option of sbatch", id="not an option"),
        pytest.param({"extra": ("--nodes=4",)}, "use launcher.nodes", id="an option that has a key"),
        pytest.param({"extra": ("--mem=0\n#SBATCH --nodes=9",)}, "one line", id="two lines"),
        pytest.param({"partition": "gpu\nrm -rf /"}, "one line", id="a line break in a name"),
        pytest.param({"offload": True}, "launcher.strategy=zero2", id="offload without ZeRO"),
        pytest.param({"offload": True, "strategy": "fsdp2"}, "with ZeRO only", id="offload with FSDP2"),
    ],
)
def test_values_that_slurm_would_misread_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        slurm(**values)


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        pytest.param("90", 5400.0, id="minutes"),
        pytest.param("1:30", 90.0, id="minutes and seconds"),
        pytest.param("1:00:00", 3600.0, id="hours"),
        pytest.param("2-0", 172800.0, id="days and hours"),
        pytest.param("1-02:03:04", 93784.0, id="days to seconds"),
        pytest.param("infinite", None, id="no limit"),
        pytest.param("0", None, id="zero means no limit"),
    ],
)
def test_a_time_limit_is_read_as_slurm_reads_it(limit: str, seconds: float | None) -> None:
    assert slurm_client.seconds_of(limit) == seconds


def test_the_jobs_of_a_large_sweep_are_requested_in_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Linux takes no argument above 128 KiB; `squeue` here answers for the first and last job of each request."""
    fake = tmp_path / "squeue"
    fake.write_text(
        '#!/bin/sh\nfor last; do :; done\nids=${last#--jobs=}\necho "${ids%%,*}|RUNNING|None"\necho "${ids##*,}|PENDING|None"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    first = 100_000_000
    found = slurm_client.jobs(range(first, first + 20_000))
    assert found[first].state == "RUNNING"
    assert found[first + 19_999].state == "PENDING"
