"""Which node this is: read from the variables of each scheduler, as its documentation lists them."""

from pathlib import Path

import pytest

from r1exp.errors import Refused
from r1exp.launcher.cluster import Place, place_in
from r1exp.launcher.torchrun_nodes import Torchrun


def torchrun(**changes: object) -> Torchrun:
    values: dict[str, object] = dict(  # noqa: C408 - shorter
        kind="torchrun", nodes=None, node_rank=None, address=None, port=None, processes_per_node=None, strategy="ddp",
        offload=False, patience=60.0, device="cuda", threads_per_process=None,
    )  # fmt: skip
    return Torchrun.model_validate(values | changes)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param(
            {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.5\n", "SKYPILOT_NUM_GPUS_PER_NODE": "8"},
            Place(2, 1, "10.0.0.4", 29500, "SkyPilot"), id="SkyPilot",
        ),
        pytest.param(
            {"DSTACK_NODES_NUM": "4", "DSTACK_NODE_RANK": "0", "DSTACK_MASTER_NODE_IP": "10.1.0.1", "DSTACK_GPUS_PER_NODE": "8"},
            Place(4, 0, "10.1.0.1", 29500, "dstack"), id="dstack",
        ),
        pytest.param(
            # The operator counts pods in WORLD_SIZE and RANK.
            {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "job-master-0", "PET_MASTER_PORT": "23456", "PET_NPROC_PER_NODE": "1",
             "WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456"},
            Place(2, 1, "job-master-0", 23456, "PyTorchJob"), id="PyTorchJob",
        ),
        pytest.param(
            {"SLURM_STEP_NUM_NODES": "3", "SLURM_NODEID": "2", "SLURM_STEP_NODELIST": "gpu[03-04,9],m1"},
            Place(3, 2, "gpu03", 29500, "srun"), id="srun",
        ),
        pytest.param(
            {"SLURM_STEP_NUM_NODES": "2", "SLURM_NODEID": "0", "SLURM_STEP_NODELIST": "n1,n2"},
            Place(2, 0, "n1", 29500, "srun"), id="srun with plain names",
        ),
        pytest.param(
            {"GROUP_WORLD_SIZE": "2", "GROUP_RANK": "1", "LOCAL_WORLD_SIZE": "1", "RANK": "1", "WORLD_SIZE": "2",
             "MASTER_ADDR": "n1", "MASTER_PORT": "29400"},
            Place(2, 1, "n1", 29401, "torchrun"), id="torchrun, whose port is taken",
        ),
        pytest.param(
            {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "n1", "MASTER_PORT": "12345"},
            Place(2, 1, "n1", 12345, "the environment"), id="anything else",
        ),
        pytest.param({"SKYPILOT_NUM_NODES": "1", "SKYPILOT_NODE_RANK": "0"}, Place(1, 0, "127.0.0.1", 29500, "SkyPilot"), id="one node"),
        pytest.param({"RANK": "0", "WORLD_SIZE": "1"}, None, id="nothing"),
    ],
)  # fmt: skip
def test_the_place_of_a_node_is_read_from_its_environment(
    environment: dict[str, str], expected: Place | None
) -> None:
    assert place_in(environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        pytest.param({"NNODES": "2", "NODE_RANK": "0"}, "MASTER_ADDR is not set", id="no address"),
        pytest.param({"NNODES": "2", "NODE_RANK": "x", "MASTER_ADDR": "a"}, "NODE_RANK=x is no number", id="no number"),
        pytest.param({"GROUP_WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "8"}, "nproc-per-node=1", id="a command for each GPU"),
    ],
)  # fmt: skip
def test_what_the_environment_lacks_is_said(environment: dict[str, str], message: str) -> None:
    with pytest.raises(Refused, match=message):
        place_in(environment)


def test_the_command_of_a_node_has_its_index_and_the_address_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "n1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    launcher = torchrun().for_step(2)
    assert (launcher.num_processes, launcher.num_nodes, launcher.ranks_per_node) == (12, 2, 6)
    launch = launcher.launch(Path("step"))
    text = " ".join(launch.arguments)
    assert "--machine_rank 1 --main_process_ip n1 --main_process_port 29500 -m r1exp.worker step" in text
    assert launch.environment["CUDA_VISIBLE_DEVICES"] == "0,1,2,3,4,5"
    assert "num_machines: 2\nnum_processes: 12" in launch.files["accelerate.yaml"]


def test_typed_values_take_the_place_of_variables_and_a_plan_needs_neither() -> None:
    typed = torchrun(nodes=2, node_rank=1, address="n7", port=4000, processes_per_node=1, device="cpu")
    assert "--machine_rank 1 --main_process_ip n7 --main_process_port 4000" in " ".join(
        typed.launch(Path("step")).arguments
    )
    planned = torchrun(nodes=2, device="cpu").for_step(0)
    assert "--main_process_ip FIRST_NODE" in " ".join(planned.launch(Path("step")).arguments)
    with pytest.raises(Refused, match=r"launcher\.node_rank=N launcher\.address=FIRST_NODE"):
        planned.refuse_unready()


def test_what_is_typed_counts_also_where_the_environment_is_incomplete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NNODES", "2")
    typed = torchrun(nodes=2, node_rank=1, address="n7", processes_per_node=1, device="cpu")
    assert "--machine_rank 1 --main_process_ip n7" in " ".join(typed.launch(Path("step")).arguments)
    with pytest.raises(Refused, match="NODE_RANK is not set"):
        torchrun(nodes=2, address="n7", device="cpu").refuse_unready()


def test_more_ranks_than_the_gpus_of_a_node_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(Refused, match=r"type launcher\.processes_per_node=1"):
        torchrun(nodes=2, processes_per_node=2).for_step(1)
    with pytest.raises(Refused, match="a node shows 2 CUDA"):
        torchrun(nodes=2).for_step(2)
