"""Reads from the environment which node of how many this is, and where the nodes meet. Pure and torch-free.

| who starts the nodes | nodes, index of this one, address of the first, port |
|---|---|
| Kubeflow's PyTorchJob and TrainJob | PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR, PET_MASTER_PORT |
| SkyPilot | SKYPILOT_NUM_NODES, SKYPILOT_NODE_RANK, first line of SKYPILOT_NODE_IPS |
| dstack | DSTACK_NODES_NUM, DSTACK_NODE_RANK, DSTACK_MASTER_NODE_IP |
| srun, in an allocation | SLURM_STEP_NUM_NODES, SLURM_NODEID, first name of SLURM_STEP_NODELIST |
| torchrun --nproc-per-node=1 | GROUP_WORLD_SIZE, GROUP_RANK, MASTER_ADDR, MASTER_PORT (its own, so that r1exp uses the next) |
| anything else | NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT |

The first group of which the number of nodes is set counts. Sources: the documentation of each, November 2026.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from r1exp.errors import Refused

_DEFAULT_PORT = 29_500  # as torchrun's
_FIRST_OF_LIST = re.compile(r"([^\[,]*)(?:\[(\d+))?")  # SLURM writes n[03-05,9],m1


@dataclass(frozen=True)
class Place:
    """Where this process is among the nodes of a cluster."""

    nodes: int
    node_rank: int  # index of this node, from 0
    address: str  # at which the first node is reached
    port: int  # TCP port of the rendezvous
    scheduler: str  # who set the variables, for messages


@dataclass(frozen=True)
class _Variables:
    """The names of a scheduler's variables."""

    scheduler: str
    nodes: str
    node_rank: str
    address: str
    port: str | None = None
    is_port_taken: bool = False  # by the scheduler itself


_SCHEDULERS = (
    _Variables("SkyPilot", "SKYPILOT_NUM_NODES", "SKYPILOT_NODE_RANK", "SKYPILOT_NODE_IPS"),
    _Variables("dstack", "DSTACK_NODES_NUM", "DSTACK_NODE_RANK", "DSTACK_MASTER_NODE_IP"),
    _Variables("PyTorchJob", "PET_NNODES", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"),
    _Variables("torchrun", "GROUP_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT", True),
    _Variables("srun", "SLURM_STEP_NUM_NODES", "SLURM_NODEID", "SLURM_STEP_NODELIST"),
    _Variables("the environment", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"),
)
VARIABLES = frozenset(
    name for each in _SCHEDULERS for name in (each.nodes, each.node_rank, each.address, each.port) if name
)


def place_in(environment: Mapping[str, str]) -> Place | None:
    """Return the place that the environment states; None where it states no number of nodes.

    Raises:
        Refused: a variable is missing or no number, or one command was started for each GPU.
    """
    found = next((each for each in _SCHEDULERS if environment.get(each.nodes)), None)
    if found is None:
        return None
    if found.scheduler == "torchrun" and environment.get("LOCAL_WORLD_SIZE", "1") != "1":
        raise Refused(
            f"torchrun started {environment['LOCAL_WORLD_SIZE']} commands on each node, and launcher=torchrun starts the ranks "
            "itself: one command for each node; type torchrun --nproc-per-node=1"
        )
    nodes = _number(environment, found.nodes, found.scheduler)
    if nodes == 1:
        return Place(1, 0, "127.0.0.1", _DEFAULT_PORT, found.scheduler)
    port = _DEFAULT_PORT
    if found.port is not None and environment.get(found.port):
        port = _number(environment, found.port, found.scheduler) + found.is_port_taken
    return Place(
        nodes,
        _number(environment, found.node_rank, found.scheduler),
        _first(_required(environment, found.address, found.scheduler)),
        port,
        found.scheduler,
    )


def _required(environment: Mapping[str, str], name: str, scheduler: str) -> str:
    value = environment.get(name, "").strip()
    if not value:
        raise Refused(
            f"{scheduler} states several nodes, and {name} is not set; set it on every node, or type launcher.node_rank=N "
            "launcher.address=FIRST_NODE"
        )
    return value


def _number(environment: Mapping[str, str], name: str, scheduler: str) -> int:
    text = _required(environment, name, scheduler)
    if not text.isdecimal():
        raise Refused(f"{name}={text} is no number, and {scheduler} should state one; set it on every node")
    return int(text)


def _first(hosts: str) -> str:
    """Return the first of several hosts: on lines of their own, with commas, or as SLURM shortens them."""
    found = _FIRST_OF_LIST.match(hosts.split()[0])
    assert found is not None  # the pattern matches the empty text
    return f"{found[1]}{found[2] or ''}"
