"""What FSDP2 needs beside accelerate: ranks on CPUs, whole weights to sample with, and this rank's part of a weight.

After `fully_shard` (torch 2.13) every weight is a DTensor, of which each rank holds the shard of its first dimension. Runs in
workers: imports torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch import Tensor, distributed, nn
from torch.distributed import checkpoint
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor


def shard_on_cpus() -> None:
    """Make accelerate use FSDP for ranks on CPUs as it does for those on GPUs.

    accelerate 1.15 looks at ACCELERATE_USE_FSDP only where the ranks are of the type MULTI_GPU, and names those on CPUs
    MULTI_CPU, which would train with DistributedDataParallel without saying so. Here they have the name MULTI_GPU before accelerate
    looks; device and backend stay `cpu` and gloo. tests/model/test_shards.py fails where a later version looks at something
    else.
    """
    theirs = AcceleratorState.__init__
    if hasattr(theirs, "__wrapped__"):
        return

    @wraps(theirs)
    def named_like_gpus(self: Any, *args: Any, **kwargs: Any) -> None:
        if PartialState._shared_state == {}:
            PartialState(cpu=True)
        if PartialState._shared_state["distributed_type"] == DistributedType.MULTI_CPU:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        theirs(self, *args, **kwargs)

    AcceleratorState.__init__ = named_like_gpus


@torch.no_grad()
def start_alike(model: nn.Module, device: torch.device) -> None:
    """Give every rank the trained weights of rank 0, as DistributedDataParallel and DeepSpeed do. A collective operation.

    accelerate cuts what each rank has: where ranks have drawn adapters with seeds of their own, it would mix them.

    Args:
        model: Not sharded yet; it may be on the host.
        device: Of this rank, through which the weights are sent.
    """
    for weight in model.parameters():
        if weight.requires_grad:
            whole = weight.detach().to(device)
            distributed.broadcast(whole, src=0)
            weight.copy_(whole)


def is_sharded(model: nn.Module) -> bool:
    """Whether FSDP2 holds the weights of a model."""
    return isinstance(model, FSDPModule)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Return a context in which this rank holds every weight of a sharded model, so that it can sample by itself.

    Completions of two ranks have different lengths: gathered layer by layer, the one that ends first would let the other wait
    for ever. A collective operation; without FSDP2 nothing is done.
    """
    if not isinstance(model, FSDPModule):
        yield
        return
    model._get_fsdp_state()._lazy_init()  # decides which parts keep their weights after a forward
    parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
    groups = [group for part in parts for group in part._get_fsdp_state()._fsdp_param_groups]
    kept = [group.post_forward_mesh_info for group in groups]
    for part in parts:
        part.unshard()
    for group in groups:
        # As set_reshard_after_forward(False), which has no way to read what it was.
        group.post_forward_mesh_info = None
    try:
        yield
    finally:
        for group, info in zip(groups, kept, strict=True):
            group.post_forward_mesh_info = info
        for part in parts:
            part.reshard()


def whole_weights(
    model: nn.Module, dtype: torch.dtype, *, keep: bool, is_frozen_left_out: bool = False
) -> dict[str, Tensor]:
    """Return the state dict of a sharded model with whole weights in the host's memory. A collective operation.

    Args:
        model: The model that FSDP2 holds; with mixed precision its trained weights are masters of float32.
        dtype: Data type of the weights that are returned.
        keep: Whether this rank needs them; the others return nothing, and hold one weight at a time.
        is_frozen_left_out: Whether weights that are not trained are left out, as where only adapters are needed.
    """
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    found = {}
    for name, weight in model.state_dict().items():
        if is_frozen_left_out and name in frozen:
            continue
        whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
        if keep:
            is_number = whole.is_floating_point()
            found[name] = whole.detach().to("cpu", dtype if is_number else whole.dtype, copy=True)
    return found


def shard_again(model: nn.Module) -> None:
    """Free gathered weights that a forward pass without a backward pass has left, so that `parameters()` are the shards."""
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def local_part(weight: Tensor) -> Tensor:
    """Return this rank's part of a weight: its shard with FSDP2, its partition with ZeRO-3, else all of it."""
    if isinstance(weight, DTensor):
        return weight.to_local()
    part: Tensor = getattr(weight, "ds_tensor", weight)
    return part


def plain(number: Tensor) -> Tensor:
    """Return a number computed from shards, for example a norm, as an ordinary tensor. A collective operation."""
    return number.full_tensor() if isinstance(number, DTensor) else number


def save_shards(weights: dict[str, Tensor], folder: Path) -> None:
    """Save weights of a sharded model; each rank writes its part into `folder`."""
    checkpoint.save(dict(weights), checkpoint_id=folder)


def load_shards(weights: dict[str, Tensor], folder: Path) -> None:
    """Load into weights of a sharded model what `save_shards` wrote, also with another number of ranks."""
    checkpoint.load(dict(weights), checkpoint_id=folder)
