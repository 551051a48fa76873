"""Nodes that a scheduler has started: the same command is typed on each, and this launcher starts the node's ranks.

Which node of how many this is, and where they meet, is read from the environment (`r1exp.launcher.cluster`). The first
node owns the run; the others follow it (`r1exp.runner.nodes`).
"""

import os
import sys
from pathlib import Path
from typing import Literal, Self

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from r1exp.errors import Refused
from r1exp.launcher.base import Device, Launcher
from r1exp.launcher.cluster import Place, place_in
from r1exp.launcher.extensions import refuse_without_deepspeed
from r1exp.launcher.fsdp2 import strategy_files
from r1exp.launcher.zero import stage_of
from r1exp.settings import Name

_GRACE_OF_KUBERNETES = 30.0  # seconds
_HERE = Place(1, 0, "127.0.0.1", 29_500, "nothing")


class Torchrun(Launcher):
    """The same number of ranks on each of several nodes, each of which runs the same command."""

    kind: Literal["torchrun"]
    # Nodes; null: as the environment says, or 1. Stated by `for_step`, before anything reads it.
    nodes: PositiveInt | None
    node_rank: NonNegativeInt | None  # index of this node, from 0; null: as the environment says
    address: Name | None  # at which the first node is reached; null: as the environment says
    port: PositiveInt | None  # of the rendezvous, on the first node; null: as the environment says, or 29500
    processes_per_node: (
        PositiveInt | None
    )  # ranks; null: one for each GPU that a vLLM server leaves, or 1 on a CPU
    strategy: Literal["ddp", "zero1", "zero2", "zero3", "fsdp2"]  # how the ranks train together
    offload: bool  # with ZeRO: partitioned states are kept in the host's memory
    patience: PositiveFloat  # seconds that nodes wait for each other: until all run the command, and for a sign of life

    ranks_setting = "launcher.processes_per_node"
    is_scheduled = True

    @property
    def num_processes(self) -> int:
        """Ranks over all nodes."""
        return self.num_nodes * self.ranks_per_node

    @property
    def num_nodes(self) -> int:
        """Nodes, on all of which ranks run."""
        return self.nodes or (place_in(os.environ) or _HERE).nodes

    @property
    def ranks_per_node(self) -> int:
        """Ranks on one node."""
        return self.processes_per_node or 1

    @property
    def num_followers(self) -> int:
        """All nodes but the first."""
        return self.num_nodes - 1

    @property
    def index_of_this_node(self) -> int:
        """The index of this node, from 0; 0 where nothing states it."""
        return 0 if self.num_nodes == 1 else self._place().node_rank

    @property
    def zero_stage(self) -> int:
        """The ZeRO stage; 0 without ZeRO."""
        return stage_of(self.strategy)

    @property
    def is_fully_sharded(self) -> bool:
        """Whether FSDP2 holds the weights."""
        return self.strategy == "fsdp2"

    @property
    def is_offloaded(self) -> bool:
        """Whether ZeRO keeps states in the host's memory."""
        return self.offload

    @property
    def seconds_to_save(self) -> float:
        """Seconds between SIGTERM and SIGKILL: those of Kubernetes, unless its manifest says another number."""
        return _GRACE_OF_KUBERNETES

    @property
    def advice_to_save(self) -> str:
        """What to write for more of these seconds."""
        return (
            "give the processes more than that after SIGTERM, where your scheduler lets you "
            "(Kubernetes: terminationGracePeriodSeconds)"
        )

    def for_step(self, num_kept: int, can_share: bool = True) -> Self:
        """Return this launcher with its nodes and ranks stated; every node has as many GPUs as this one.

        Raises:
            Refused: a node has too few GPUs, or shows none that could be counted.
        """
        ranks = self.processes_per_node
        if self.resolved_device() == "cuda":
            left = len(self.devices()) - num_kept
            if (ranks is None and left < 1) or (ranks is not None and self.devices() and ranks > left):
                server = f", of which the vLLM server takes {num_kept}" if num_kept else ""
                raise Refused(
                    f"launcher.processes_per_node={'null' if ranks is None else ranks}: a node shows {len(self.devices())} "
                    f"CUDA device(s){server}; type launcher.processes_per_node={max(1, left)}, lower rollout.num_devices, or "
                    "plan for other nodes: r1exp plan device=h100 devices=8"
                )
            ranks = ranks or left
        return self.model_copy(update={"nodes": self.num_nodes, "processes_per_node": ranks or 1})

    def refuse_unready(self) -> None:
        """Raise Refused where the environment does not state this node's place, or DeepSpeed is missing."""
        if self.num_nodes > 1:
            self._place()
        if self.zero_stage:
            refuse_without_deepspeed(f"{self.kind} launcher.strategy={self.strategy}")

    def command(self, folder: Path, accelerate: list[str], worker: list[str]) -> list[str]:
        """Return the command that starts the ranks of this node."""
        if self.num_nodes == 1:
            return [sys.executable, *accelerate, *self.rendezvous_here(self.port), *worker]
        place = self._place(is_planned=True)
        where = ["--machine_rank", str(place.node_rank), "--main_process_ip", place.address]
        return [sys.executable, *accelerate, *where, "--main_process_port", str(place.port), *worker]

    def files(self, folder: Path, device: Device) -> dict[str, str]:
        """Return accelerate's configuration and, with ZeRO, DeepSpeed's."""
        found = strategy_files(self, folder, device)
        return super().files(folder, device) if found is None else found

    def _place(self, *, is_planned: bool = False) -> Place:
        """Return the place of this node, as typed or as the environment says.

        Args:
            is_planned: Whether placeholders may stand for what nothing states, as in a plan that is made elsewhere.
        """
        try:
            found = place_in(os.environ)
        except Refused:  # the environment is incomplete, which matters only where nothing is typed
            if self.node_rank is None or self.address is None:
                raise
            found = None
        found = found if found is not None and found.nodes == self.num_nodes else None
        rank = self.node_rank if self.node_rank is not None else None if found is None else found.node_rank
        address = self.address or (None if found is None else found.address)
        port = self.port or (_HERE.port if found is None else found.port)
        if not is_planned and (rank is None or address is None):
            raise Refused(
                f"launcher=torchrun with {self.num_nodes} nodes: no variable says which of them this is and where the first is; "
                "start the command on each node with a scheduler (docs/schedulers.md), or type launcher.node_rank=N "
                "launcher.address=FIRST_NODE"
            )
        if rank is not None and rank >= self.num_nodes:
            raise Refused(f"launcher.node_rank={rank}: nodes are numbered from 0 to {self.num_nodes - 1}")
        return Place(self.num_nodes, rank or 0, address or "FIRST_NODE", port, "")

    @model_validator(mode="after")
    def _offload_needs_zero(self) -> Self:
        if self.offload and not self.zero_stage:
            raise ValueError(
                f"offload=true has no effect with strategy={self.strategy}: r1exp offloads with ZeRO only; use "
                "launcher.strategy=zero2 or zero3"
            )
        return self
